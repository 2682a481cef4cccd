//! Owners for the objects of OpenVINO's C API: each is freed once, each status becomes a `Result`.
//!
//! The bindings crate `openvino` was rejected: its tensors cannot borrow the batch tensor, which costs a copy of
//! every batch (1.2 MB for one 320x320 picture), its ports and names are never freed, and some of its calls panic.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use openvino_sys as sys;

/// What OpenVINO says went wrong, without the places in its source code.
pub(super) type Result<T> = std::result::Result<T, String>;

fn ok(status: sys::ov_status_e) -> Result<()> {
    if status == sys::ov_status_e::OK {
        return Ok(());
    }
    // SAFETY: the message is a copy that is ours to free, or null.
    let message = unsafe {
        let raw = sys::ov_get_last_err_msg();
        if raw.is_null() {
            String::new()
        } else {
            let message = CStr::from_ptr(raw).to_string_lossy().into_owned();
            sys::ov_free(raw);
            message
        }
    };
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling: Vec<_> =
        lines.filter(|line| !line.starts_with("Exception from ") && !line.starts_with("Check '")).collect();
    Err(if telling.is_empty() { format!("OpenVINO failed with {status:?}") } else { telling.join(" ") })
}

/// Calls a function whose last argument is where it puts the object it makes.
macro_rules! made {
    ($function:ident($($argument:expr),*)) => {{
        let mut raw = ptr::null_mut();
        // SAFETY: the arguments are live objects or C strings of this module; `raw` is written on success only.
        ok(unsafe { sys::$function($($argument,)* &raw mut raw) })?;
        if raw.is_null() {
            return Err(concat!("OpenVINO gave nothing for ", stringify!($function)).to_owned());
        }
        raw
    }};
}

/// Declares the owner of one kind of object.
macro_rules! owner {
    ($(#[$doc:meta])* $name:ident, $raw:ident, $free:ident) => {
        $(#[$doc])*
        pub(super) struct $name(*mut sys::$raw);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the object was made by the library and this is its only owner.
                unsafe { sys::$free(self.0) }
            }
        }
    };
}

owner!(Core, ov_core_t, ov_core_free);
owner!(Model, ov_model_t, ov_model_free);
owner!(Compiled, ov_compiled_model_t, ov_compiled_model_free);
owner!(Request, ov_infer_request_t, ov_infer_request_free);
owner!(Tensor, ov_tensor_t, ov_tensor_free);
owner!(Port, ov_output_const_port_t, ov_output_const_port_free);

// SAFETY: none of these objects is tied to a thread.
unsafe impl Send for Core {}
unsafe impl Send for Model {}
unsafe impl Send for Compiled {}
unsafe impl Send for Request {}
// SAFETY: OpenVINO documents its core as safe to share, and compiling reads a model without changing it.
unsafe impl Sync for Core {}
unsafe impl Sync for Model {}

/// An input or output: its name, element type and dimensions (`None` may vary).
pub(super) struct PortInfo {
    pub(super) name: String,
    pub(super) element: sys::ov_element_type_e,
    pub(super) dims: Vec<Option<usize>>,
}

/// The library's version, as it says itself: `2026.4.1-...`.
pub(super) fn version() -> Result<String> {
    let mut version = sys::ov_version_t { buildNumber: ptr::null(), description: ptr::null() };
    // SAFETY: the texts are C strings until they are freed, after they were copied.
    unsafe {
        ok(sys::ov_get_openvino_version(&raw mut version))?;
        let text = CStr::from_ptr(version.buildNumber).to_string_lossy().into_owned();
        sys::ov_version_free(&raw mut version);
        Ok(text)
    }
}

impl Core {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(made!(ov_core_create())))
    }

    /// Sets a property of a device for every model that is compiled after it.
    pub(super) fn set(&self, device: &CStr, key: &CStr, value: &str) -> Result<()> {
        let value = CString::new(value).map_err(|error| error.to_string())?;
        // SAFETY: live object, C strings.
        ok(unsafe { sys::ov_core_set_property(self.0, device.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    pub(super) fn read(&self, path: &CStr) -> Result<Model> {
        Ok(Model(made!(ov_core_read_model(self.0, path.as_ptr(), ptr::null()))))
    }

    pub(super) fn compile(&self, model: &Model, device: &CStr) -> Result<Compiled> {
        Ok(Compiled(made!(ov_core_compile_model(self.0, model.0, device.as_ptr(), 0))))
    }
}

impl Model {
    pub(super) fn inputs(&self) -> Result<Vec<PortInfo>> {
        let mut count = 0;
        // SAFETY: live object.
        ok(unsafe { sys::ov_model_inputs_size(self.0, &raw mut count) })?;
        (0..count).map(|index| Port(made!(ov_model_const_input_by_index(self.0, index))).info()).collect()
    }

    pub(super) fn outputs(&self) -> Result<Vec<PortInfo>> {
        let mut count = 0;
        // SAFETY: live object.
        ok(unsafe { sys::ov_model_outputs_size(self.0, &raw mut count) })?;
        (0..count).map(|index| Port(made!(ov_model_const_output_by_index(self.0, index))).info()).collect()
    }
}

impl Port {
    fn info(&self) -> Result<PortInfo> {
        let name: *mut c_char = made!(ov_port_get_any_name(self.0));
        // SAFETY: a C string that is ours to free.
        let text = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        unsafe { sys::ov_free(name) };
        let mut element = sys::ov_element_type_e::DYNAMIC;
        // SAFETY: live object.
        ok(unsafe { sys::ov_port_get_element_type(self.0, &raw mut element) })?;
        Ok(PortInfo { name: text, element, dims: self.dims()? })
    }

    fn dims(&self) -> Result<Vec<Option<usize>>> {
        let any = sys::ov_dimension_t { min: 0, max: 0 };
        let mut shape = sys::ov_partial_shape_t { rank: any, dims: ptr::null_mut() };
        // SAFETY: live object.
        ok(unsafe { sys::ov_port_get_partial_shape(self.0, &raw mut shape) })?;
        let known = shape.rank.min == shape.rank.max && !shape.dims.is_null();
        let rank = if known { usize::try_from(shape.rank.max).unwrap_or(0) } else { 0 };
        // SAFETY: `dims` holds as many dimensions as the rank says, until it is freed.
        let dims = (0..rank).map(|at| unsafe { *shape.dims.add(at) });
        let dims = dims.map(|dim| usize::try_from(dim.min).ok().filter(|_| dim.min == dim.max)).collect();
        unsafe { sys::ov_partial_shape_free(&raw mut shape) };
        Ok(dims)
    }
}

impl Compiled {
    pub(super) fn request(&self) -> Result<Request> {
        Ok(Request(made!(ov_compiled_model_create_infer_request(self.0))))
    }
}

impl Request {
    /// Runs the model on the values at `data`, which it reads where they lie, and returns when it is done.
    ///
    /// # Safety
    /// `data` holds as many elements as `shape` says, and stays until the call returns. Afterwards the request
    /// still knows the address but does not read it before the next call replaces it.
    pub(super) unsafe fn run(
        &mut self,
        element: sys::ov_element_type_e,
        shape: [usize; 4],
        data: *const u8,
    ) -> Result<()> {
        let mut dims = shape.map(|dim| i64::try_from(dim).unwrap_or(i64::MAX));
        let shape = sys::ov_shape_t { rank: 4, dims: dims.as_mut_ptr() };
        let tensor = Tensor(made!(ov_tensor_create_from_host_ptr(element, shape, data.cast_mut().cast())));
        // SAFETY: live objects; the model does not write to its inputs.
        unsafe {
            ok(sys::ov_infer_request_set_input_tensor_by_index(self.0, 0, tensor.0))?;
            ok(sys::ov_infer_request_infer(self.0))
        }
    }

    /// The output of the last run.
    pub(super) fn output(&self, index: usize) -> Result<Tensor> {
        Ok(Tensor(made!(ov_infer_request_get_output_tensor_by_index(self.0, index))))
    }
}

impl Tensor {
    pub(super) fn element(&self) -> Result<sys::ov_element_type_e> {
        let mut element = sys::ov_element_type_e::DYNAMIC;
        // SAFETY: live object.
        ok(unsafe { sys::ov_tensor_get_element_type(self.0, &raw mut element) })?;
        Ok(element)
    }

    /// Replaces `dims` by the tensor's dimensions.
    pub(super) fn shape(&self, dims: &mut Vec<usize>) -> Result<()> {
        let mut shape = sys::ov_shape_t { rank: 0, dims: ptr::null_mut() };
        // SAFETY: live object.
        ok(unsafe { sys::ov_tensor_get_shape(self.0, &raw mut shape) })?;
        let rank = if shape.dims.is_null() { 0 } else { usize::try_from(shape.rank).unwrap_or(0) };
        dims.clear();
        // SAFETY: `dims` holds as many dimensions as the rank says, until it is freed.
        dims.extend((0..rank).map(|at| usize::try_from(unsafe { *shape.dims.add(at) }).unwrap_or(0)));
        ok(unsafe { sys::ov_shape_free(&raw mut shape) })
    }

    /// The values, dense and row-major.
    ///
    /// # Safety
    /// `T` is the tensor's element type.
    pub(super) unsafe fn values<T>(&self) -> Result<&[T]> {
        let mut count = 0;
        let mut data = ptr::null_mut();
        // SAFETY: live object.
        ok(unsafe { sys::ov_tensor_get_size(self.0, &raw mut count) })?;
        if count == 0 {
            return Ok(&[]);
        }
        ok(unsafe { sys::ov_tensor_data(self.0, &raw mut data) })?;
        if data.is_null() || !data.cast::<T>().is_aligned() {
            return Err("OpenVINO gave an output without readable values".to_owned());
        }
        // SAFETY: the tensor owns `count` elements at `data` and is borrowed as long as the slice.
        Ok(unsafe { std::slice::from_raw_parts(data.cast::<T>(), count) })
    }
}
