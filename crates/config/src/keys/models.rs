//! The keys of a model, its input and its output.

use omma_engine::picture::{Color, Layout};
use omma_engine::plan::Mode;
use omma_engine::tensor::DType;

use super::texts::{ENTRY, MINUTES_10_MS, NAME, PATH, WORDS, key, list, section};
use super::triton;
use crate::model::{BatchAs, Provider, PythonDevice, ResizeWord, RuntimeWord, Waiting};
use crate::output::{Activation, AnchorAxis, Background, BoxForm, BoxUnits, Decoder};
use crate::schema::Absent::{Is, Means, Required};
use crate::schema::Kind::{Channels, Classes, Flag, Integer, Integers, Named, Number, Or, Table, Texts, Word};
use crate::schema::{Kind, Section, words};

const VERSIONED: &[&str] = &["auto", "onnxruntime", "openvino", "rten", "triton"];
const FILE_RUNTIMES: &[&str] = &["auto", "onnxruntime", "openvino", "rten"];
const LOCAL_RUNTIMES: &[&str] = &["auto", "onnxruntime", "openvino", "rten", "python"];
const PYTHON: &[&str] = &["python"];

pub(super) static MODELS: Section = list(
    "models",
    Some("runtime"),
    "What looks at the frames. Where there is one model, sources use it unless told otherwise.",
    &[
        key("name", Kind::Text(&NAME), Required, "what sources, metrics and results call it"),
        key(
            "runtime",
            Word(words::<RuntimeWord>),
            Is("\"auto\""),
            "what runs it; `auto`: the best that is present; `null`: nothing, every frame goes \
             through unseen; `identity`: nothing, what goes in comes out; `simulated`: nothing either, but in the time that \
             a model would take; `python`: a class or function in worker processes; `triton`: servers that speak the Open \
             Inference Protocol",
        ),
        key(
            "entry",
            Kind::Text(&ENTRY),
            Required,
            "the class or function that looks at the frames, imported from `folder` or from where the interpreter looks \
             for modules",
        )
        .only(PYTHON),
        key("folder", Kind::Text(&PATH), Means("the configuration's folder"), "the folder that the workers run in")
            .only(PYTHON),
        key(
            "interpreter",
            Kind::Text(&PATH),
            Is("\"python3\""),
            "the Python that runs the workers: a command, or the path of one (of a virtual environment)",
        )
        .only(PYTHON),
        key(
            "device",
            Word(words::<PythonDevice>),
            Is("\"cpu\""),
            "where the model computes, which decides about `mode = \"auto\"`; given to `load` if it takes a `device`",
        )
        .only(PYTHON),
        key(
            "batch_as",
            Word(words::<BatchAs>),
            Is("\"numpy\""),
            "what a batch is to `predict`: a numpy array, a tensor of torch, or a memoryview (`buffer`, which needs no \
             library)",
        )
        .only(PYTHON),
        key(
            "load_timeout_ms",
            Integer { min: 1, max: MINUTES_10_MS },
            Is("60000"),
            "until a worker has loaded the model and answered its first picture",
        )
        .only(PYTHON),
        key(
            "output_bytes_max",
            Integer { min: 4096, max: 16 << 30 },
            Is("268435456"),
            "the most that the outputs of one batch may take; memory is used as it is needed",
        )
        .only(PYTHON),
        key("environment", Named, Means("none"), "environment variables of the workers, beside omma's own").only(PYTHON),
        triton::SERVERS,
        triton::MODEL,
        triton::SHARED_MEMORY,
        triton::SEND,
        triton::PICTURE_BYTES_MAX,
        triton::REQUESTS_MAX,
        triton::RETRIES_MAX,
        triton::CONNECT_TIMEOUT_MS,
        triton::START_TIMEOUT_MS,
        key(
            "path",
            Kind::Text(&PATH),
            Required,
            "the model's ONNX file, or a folder of numbered versions: `PATH/1/model.onnx`, `PATH/2/model.onnx`, ...",
        )
        .only(FILE_RUNTIMES),
        key(
            "version",
            Integer { min: 1, max: 4_000_000_000 },
            Means("the highest that is there; of `triton` the server's choice"),
            "which version of a folder of versions, or of a server's model",
        )
        .only(VERSIONED),
        key(
            "watch",
            Flag,
            Is("false"),
            "a new file, or a higher version in the folder, takes over while omma runs, once it is complete, opened and \
             warmed up; one that does not do is reported and replaces nothing",
        )
        .only(FILE_RUNTIMES),
        key(
            "provider",
            Word(words::<Provider>),
            Is("\"cpu\""),
            "what ONNX Runtime computes with; other than `cpu` needs a library that was built with it (docs/guide/gpu.md)",
        )
        .only(&["auto", "onnxruntime"]),
        key(
            "cores",
            Integers { min: 0, max: 4095 },
            Means("wherever the system places them"),
            "cores that the instances are pinned to, in turn, `threads_per_instance` of them each",
        )
        .only(FILE_RUNTIMES),
        key(
            "batch_sizes",
            Integers { min: 1, max: 1024 },
            Means("any size, run as it is"),
            "batches are filled up to the next of these sizes, each of which is warmed up, up to `batch_size_max`: for models of \
             any batch size on runtimes that prepare each size anew; on the CPU only with `mode = \"sync\"` or `\"async\"`, for \
             `\"auto\"` makes no batches there",
        )
        .only(FILE_RUNTIMES),
        key("base_ms", Number { min: 0.0, max: 60_000.0 }, Is("8.0"), "how long a batch takes by itself")
            .only(&["simulated"]),
        key("per_item_ms", Number { min: 0.0, max: 60_000.0 }, Is("0.5"), "how much longer for each frame in it")
            .only(&["simulated"]),
        key(
            "waiting",
            Word(words::<Waiting>),
            Is("\"sleep\""),
            "`sleep`: as an accelerator, the CPU is free meanwhile; `spin`: as a model on the CPU, \
             the core is taken; `request`: as a server, several batches at once (`instances` is how \
             many are worth having)",
        )
        .only(&["simulated"]),
        key(
            "library",
            Kind::Text(&PATH),
            Means("searched for"),
            "the runtime's library, or the folder that it lies in",
        )
        .only(&["onnxruntime", "openvino"]),
        key(
            "mode",
            Word(words::<Mode>),
            Is("\"auto\""),
            "`sync`: a fixed pool of threads, each runs a batch to completion; `async`: feeders \
             decode the next batches while others are in the model; `direct`: no frame waits for \
             company; `auto`: by runtime and device",
        ),
        key(
            "instances",
            Or("auto", &Integer { min: 1, max: 256 }),
            Is("\"auto\""),
            "running copies, of `python` worker processes, of `triton` on all servers together; `auto`: as many as are useful \
             (2 with `provider` `cuda` and `tensorrt`), or as the servers say",
        ),
        key("threads_per_instance", Integer { min: 1, max: 256 }, Is("1"), "threads that one copy computes with")
            .only(LOCAL_RUNTIMES),
        key(
            "batch_size",
            Integer { min: 1, max: 1024 },
            Means("`inference_worker.batch_size`"),
            "what a batch aims at",
        ),
        key(
            "batch_size_max",
            Integer { min: 1, max: 1024 },
            Means("four times `batch_size`, at most 1024"),
            "what a batch may grow to while frames pile up",
        ),
        key(
            "batch_timeout_ms",
            Number { min: 0.0, max: 10_000.0 },
            Means("`inference_worker.batch_timeout_ms`"),
            "the longest that a frame waits for company",
        ),
        key(
            "deadline_ms",
            Integer { min: 1, max: MINUTES_10_MS },
            Is("10000"),
            "a batch that takes longer is given up, its frames dropped as `deadline_exceeded`",
        ),
        key(
            "warmup_batches",
            Integer { min: 0, max: 1000 },
            Is("1"),
            "batches run on a fresh instance before it counts as ready",
        ),
        key(
            "direct_share_percent",
            Integer { min: 1, max: 99 },
            Is("75"),
            "the part of each batch that direct requests may take while camera frames wait",
        ),
        key(
            "waiting_frames_max",
            Integer { min: 1, max: 10_000_000 },
            Means("`consumer_manager.async_buffer_size`, times `instances` if that is a number"),
            "frames that may wait for a batch",
        ),
        key(
            "in_flight_frames_max",
            Integer { min: 1, max: 10_000_000 },
            Means("`inference_worker.async_buffer_size`"),
            "frames handed to the asynchronous side and not yet back",
        ),
        key(
            "sync_mode_thread_pool_size",
            Integer { min: 1, max: 256 },
            Means("`inference_worker.sync_mode_thread_pool_size`"),
            "the most threads in `sync` mode",
        ),
        key(
            "feeder_executor_threads",
            Integer { min: 1, max: 256 },
            Means("`consumer_manager.feeder_executor_threads`"),
            "the most threads that decode ahead in `async` mode",
        ),
        key("input", Table(&INPUT), Means("all defaults"), "how the model wants its pictures"),
        key("output", Table(&OUTPUT), Means("all defaults"), "how the model's answer is read"),
        key(
            "parameters",
            Named,
            Means("none"),
            "texts that are handed to the model with every batch; of `python` to `load`, or to the function",
        ),
    ],
);

pub(super) static INPUT: Section = section(
    "models.input",
    "How the model wants its pictures. A value of the input is `(pixel * scale - mean) / \
             std`, where `pixel` is 0 to 255. What the model's file says need not be written; what is \
             written must agree with it.",
    &[
        key(
            "width",
            Integer { min: 1, max: 16_384 },
            Means("the model's own; 320 without a model file"),
            "pixels across",
        ),
        key(
            "height",
            Integer { min: 1, max: 16_384 },
            Means("the model's own; 320 without a model file"),
            "pixels down",
        ),
        key("dtype", Word(words::<DType>), Means("the model's own; `u8` without a model file"), "type of one value"),
        key(
            "layout",
            Word(words::<Layout>),
            Means("the model's own"),
            "whether the channels lie in planes or side by side",
        ),
        key(
            "color",
            Word(words::<Color>),
            Means("the model's own; `rgb` where 3 channels leave it open"),
            "which channels, in which order",
        ),
        key(
            "resize",
            Word(words::<ResizeWord>),
            Is("\"letterbox\""),
            "`letterbox`: keep the aspect ratio and fill up with `pad`; `stretch`: fill the input",
        ),
        key("pad", Integer { min: 0, max: 255 }, Is("114"), "grey value around a letterboxed picture"),
        key("scale", Number { min: 1e-6, max: 1e6 }, Means("1 for `u8`, 1/255 for the others"), "factor of each pixel"),
        key("mean", Channels { min: -1e6, max: 1e6 }, Is("0.0"), "subtracted after scaling"),
        key("std", Channels { min: 1e-6, max: 1e6 }, Is("1.0"), "divides what is left"),
        key(
            "expect_width",
            Integer { min: 1, max: 65_535 },
            Means("any"),
            "pictures of another width are dropped as `picture_unfit`",
        ),
        key(
            "expect_height",
            Integer { min: 1, max: 65_535 },
            Means("any"),
            "pictures of another height are dropped as `picture_unfit`",
        ),
    ],
);

const DETECTORS: &[&str] = &["auto", "yolov5", "yolov8", "yolo_end2end", "ssd", "listed"];
const SUPPRESSED: &[&str] = &["auto", "yolov5", "yolov8", "ssd"];
const BOXES: &[&str] = &["ssd", "listed"];
const CLASSIFIED: &[&str] = &["auto", "yolov5", "yolov8", "yolo_end2end", "ssd", "listed", "classes"];

pub(super) static OUTPUT: Section = Section {
    by: Some("decoder"),
    ..section(
        "models.output",
        "How the model's answer is read. Boxes come out in pixels of the original picture.",
        &[
            key(
                "decoder",
                Word(words::<Decoder>),
                Is("\"auto\""),
                "`yolov5`: boxes with objectness; `yolov8`: without (v8, v9, v11); `yolo_end2end`: rows \
             of x1, y1, x2, y2, score, class; `ssd`: boxes, and a score of each class for each box; \
             `listed`: lists of boxes, classes and scores, as TensorFlow's detection postprocessing \
             gives them; `classes`: one score for each class; `embedding`: a vector; `tensors`: \
             outputs as the model gave them; `nothing`: not read; `auto`: by the shapes of the \
             outputs",
            ),
            key(
                "score_min",
                Number { min: 0.0, max: 1.0 },
                Means("0.25 for boxes, 0 for `classes`"),
                "what has a lower score is left out",
            )
            .only(CLASSIFIED),
            key(
                "iou_max",
                Number { min: 0.0, max: 1.0 },
                Means("0.45"),
                "of two boxes that overlap more, the one with the lower score is left out",
            )
            .only(SUPPRESSED),
            key("class_agnostic", Flag, Means("false"), "boxes of different classes leave one another out too")
                .only(SUPPRESSED),
            key(
                "candidates_max",
                Integer { min: 1, max: 100_000 },
                Means("1000"),
                "boxes, those with the highest scores, that are looked at",
            )
            .only(DETECTORS),
            key("detections_max", Integer { min: 1, max: 100_000 }, Means("300"), "the most detections of one frame")
                .only(DETECTORS),
            key("only_classes", Classes, Means("all"), "the classes that come out, by number or label").only(DETECTORS),
            key("top_k", Integer { min: 1, max: 65_536 }, Means("5"), "how many classes a result names")
                .only(&["auto", "classes"]),
            key(
                "activation",
                Word(words::<Activation>),
                Means("`softmax` for `classes`, `none` for `ssd`"),
                "what makes scores of the model's numbers",
            )
            .only(&["auto", "classes", "ssd"]),
            key("normalize", Flag, Means("true"), "scale the vector to length 1").only(&["auto", "embedding"]),
            key("tensor", Kind::Text(&WORDS), Means("the first output"), "name of the output that is read").only(&[
                "auto",
                "yolov5",
                "yolov8",
                "yolo_end2end",
                "classes",
                "embedding",
            ]),
            key(
                "anchor_axis",
                Word(words::<AnchorAxis>),
                Means("`auto`"),
                "which dimension of the output counts the boxes; `auto`: the one that fits the input or \
             is much longer",
            )
            .only(&["yolov8"]),
            key("tensors", Texts(&WORDS), Means("all outputs"), "names of the outputs that are given")
                .only(&["tensors"]),
            key("values_max", Integer { min: 1, max: 1 << 28 }, Means("1048576"), "the most values of one frame")
                .only(&["tensors"]),
            key("boxes", Kind::Text(&WORDS), Means("the first output"), "name of the output with the boxes")
                .only(BOXES),
            key(
                "scores",
                Kind::Text(&WORDS),
                Means("the second output; of `listed` the third"),
                "name of the output with the scores",
            )
            .only(BOXES),
            key("classes", Kind::Text(&WORDS), Means("the second output"), "name of the output with the classes")
                .only(&["listed"]),
            key(
                "class_first",
                Integer { min: 0, max: 1 },
                Means("0; 1 where the outputs bear the names that TensorFlow gives them and `decoder` is `auto`"),
                "the number that the model gives its first class, 1 where 0 stands for the background",
            )
            .only(&["listed"]),
            key("count", Kind::Text(&WORDS), Means("none"), "name of the output with the number of boxes")
                .only(&["listed"]),
            key(
                "box_form",
                Word(words::<BoxForm>),
                Means("`xyxy` for `ssd`, `yxyx` for `listed`"),
                "what the four numbers of a box are",
            )
            .only(BOXES),
            key(
                "box_units",
                Word(words::<BoxUnits>),
                Means("`normalized` for `ssd` and `listed`, `pixels` for the others"),
                "`pixels`: of the model's input; `normalized`: 0 to 1 over it",
            )
            .only(DETECTORS),
            key(
                "background",
                Word(words::<Background>),
                Means("`none`"),
                "the column of scores that means \"nothing here\"",
            )
            .only(&["ssd"]),
            key("labels", Texts(&WORDS), Means("the class numbers"), "names of the classes, the first for class 0")
                .only(CLASSIFIED),
            key(
                "labels_file",
                Kind::Text(&PATH),
                Means("none"),
                "a file with one name on each line, instead of `labels`",
            )
            .only(CLASSIFIED),
        ],
    )
};
