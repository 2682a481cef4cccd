//! What NVIDIA's providers need of this process before their first session: NVIDIA's libraries, found where pip puts them,
//! and threads that sleep while they wait for a GPU.
//!
//! The provider's own library names what it needs and is loaded by ONNX Runtime; a library that the process has
//! loaded already is not searched for. So those in packages beside ONNX Runtime's, which the system's loader does not
//! search, are loaded first, on the thread that opens the first model on a GPU.

use std::path::Path;
use std::sync::Once;

use libloading::Library;

use super::super::library;

/// Those that the providers and cuDNN need, each after what it needs itself.
const NEEDED: [&str; 12] = [
    "libcudart.so.",
    "libnvrtc.so.",
    "libnvJitLink.so.",
    "libcublasLt.so.",
    "libcublas.so.",
    "libcufft.so.",
    "libcurand.so.",
    "libcudnn_graph.so.",
    "libcudnn.so.",
    "libnvinfer.so.",
    "libnvinfer_plugin.so.",
    "libnvonnxparser.so.",
];

/// Once per process: libraries stay loaded.
pub(super) fn prepare(onnxruntime: &Path) {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        load_packages(onnxruntime);
        let _ = wait_asleep();
    });
}

/// Loads what the packages hold and the loader does not find by itself: what a machine's owner put into its library
/// folders goes first. What cannot be loaded is left to the provider's own error, which names what it misses.
fn load_packages(onnxruntime: &Path) {
    let files: Vec<_> = library::packages_around(onnxruntime)
        .into_iter()
        .flat_map(|packages| {
            // `nvidia/cublas/lib` and the like, `nvidia/cu13/lib` since CUDA 13.
            let mut folders: Vec<_> =
                library::entries(&packages.join("nvidia")).map(|(package, _)| package.join("lib")).collect();
            folders.push(packages.join("tensorrt_libs"));
            folders
        })
        .flat_map(|folder| library::entries(&folder).collect::<Vec<_>>())
        .collect();
    for needed in NEEDED {
        for (path, name) in files.iter().filter(|(_, name)| name.starts_with(needed)) {
            if ort::util::preload_dylib(name).is_err() {
                let _ = ort::util::preload_dylib(path);
            }
        }
    }
}

/// Has threads that wait for the first GPU sleep. By default they spin, which takes the cores that decode pictures: one
/// for each instance that waits.
///
/// # Errors
/// There is no driver; the provider will say so.
fn wait_asleep() -> Result<(), libloading::Error> {
    const FIRST_GPU: i32 = 0;
    const BLOCKING_SYNC: u32 = 4;
    // SAFETY: the driver's library has no initialiser with needs of its own; both functions have had these signatures
    // since CUDA 11, and what they return (an error, with no GPU) changes nothing that is done here.
    unsafe {
        let driver = Library::new("libcuda.so.1")?;
        let init = driver.get::<unsafe extern "C" fn(u32) -> i32>(c"cuInit")?;
        let set_flags = driver.get::<unsafe extern "C" fn(i32, u32) -> i32>(c"cuDevicePrimaryCtxSetFlags_v2")?;
        if init(0) == 0 {
            set_flags(FIRST_GPU, BLOCKING_SYNC);
        }
        // The provider is about to use it; a library that goes and comes would lose what was just set.
        std::mem::forget(driver);
    }
    Ok(())
}
