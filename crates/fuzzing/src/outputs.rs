//! What models answer: every layout, with tensors of any shape and any values.

use omma_engine::picture::{Fit, Resize};
use omma_engine::post::decode::{
    Activation, AnchorAxis, Background, BoxForm, BoxUnits, ClassesPlan, Count, DetectionLayout, DetectionsPlan,
    EmbeddingPlan, OutputPlan, TensorsPlan,
};
use omma_engine::tensor::{DType, TensorView, Values};
use omma_frame::{Output, Size};

use crate::input::Input;

const INPUT: Size = Size { width: 64, height: 64 };

/// Of one tensor, so that a fuzzer gets on.
const VALUES_MAX: usize = 4096;

enum Data {
    U8(Vec<u8>),
    F32(Vec<f32>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Data {
    fn values(&self) -> Values<'_> {
        match self {
            Self::U8(v) => Values::U8(v),
            Self::F32(v) => Values::F32(v),
            Self::I32(v) => Values::I32(v),
            Self::I64(v) => Values::I64(v),
        }
    }
}

/// Mostly scores and places in a picture, sometimes any bit pattern.
fn value(input: &mut Input) -> f32 {
    match input.byte() {
        255 => input.f32(),
        254 => f32::NAN,
        253 => 1.005,
        252 => -3.0,
        byte @ 200.. => f32::from(byte - 200),
        byte => f32::from(byte) / 200.0,
    }
}

fn tensor(input: &mut Input) -> (Vec<usize>, Data) {
    let rank = input.below(4);
    let mut shape: Vec<usize> = (0..rank).map(|_| usize::from(input.byte() % 33)).collect();
    let mut count = shape.iter().product::<usize>();
    if count > VALUES_MAX {
        shape.truncate(1);
        count = shape.iter().product();
    }
    // The values do not fill the shape, or no machine could hold them.
    match input.byte() {
        0 => count /= 2,
        1 => shape.push(usize::MAX),
        2 => shape.insert(0, 1),
        _ => {}
    }
    let data = match input.pick(&[DType::F32, DType::F32, DType::F32, DType::I64, DType::I32, DType::U8]) {
        DType::F32 => Data::F32((0..count).map(|_| value(input)).collect()),
        DType::I64 => Data::I64((0..count).map(|_| i64::from(input.u32() as i32) << (input.byte() & 31)).collect()),
        DType::I32 => Data::I32((0..count).map(|_| input.u32() as i32).collect()),
        DType::U8 | DType::F16 => Data::U8((0..count).map(|_| input.byte()).collect()),
    };
    (shape, data)
}

fn layout(input: &mut Input) -> DetectionLayout {
    let form = input.pick(&[BoxForm::CornersXFirst, BoxForm::CornersYFirst, BoxForm::Center]);
    match input.below(5) {
        0 => DetectionLayout::Objectness { tensor: None },
        1 => DetectionLayout::Anchors {
            tensor: None,
            axis: input.pick(&[AnchorAxis::Auto, AnchorAxis::First, AnchorAxis::Last]),
        },
        2 => DetectionLayout::EndToEnd { tensor: None },
        3 => DetectionLayout::BoxesAndScores {
            boxes: None,
            scores: None,
            form,
            background: input.pick(&[Background::None, Background::First, Background::Last]),
            activation: input.pick(&[Activation::None, Activation::Softmax, Activation::Sigmoid]),
        },
        _ => DetectionLayout::Listed {
            boxes: None,
            classes: None,
            class_first: input.pick(&[0, 1, u32::MAX]),
            scores: None,
            count: input.pick(&[Count::None, Count::ByPosition, Count::Named("t3".to_owned())]),
            form,
        },
    }
}

fn detections(input: &mut Input) -> DetectionsPlan {
    let mut plan = DetectionsPlan::new(layout(input));
    plan.score_min = value(input);
    plan.candidates_max = usize::from(input.byte());
    plan.detections_max = usize::from(input.byte());
    plan.units = input.pick(&[BoxUnits::InputPixels, BoxUnits::Normalized]);
    plan.class_count = [None, Some(1), Some(3), Some(usize::MAX)][input.below(4)];
    plan.only_classes = input.flag().then(|| vec![0, 2, u32::MAX]);
    if let Some(nms) = &mut plan.nms {
        nms.iou_max = value(input);
        nms.across_classes = input.flag();
    }
    plan
}

fn plan(input: &mut Input) -> OutputPlan {
    let tensor = input.flag().then(|| "t1".to_owned());
    match input.below(8) {
        0 => OutputPlan::Tensors(TensorsPlan {
            names: tensor.into_iter().collect(),
            values_max: 8 * usize::from(input.byte()),
        }),
        1 => OutputPlan::Classes(ClassesPlan {
            tensor,
            activation: input.pick(&[Activation::None, Activation::Softmax, Activation::Sigmoid]),
            top: input.below(9),
            score_min: value(input),
        }),
        2 => OutputPlan::Embedding(EmbeddingPlan { tensor, normalize: input.flag() }),
        _ => OutputPlan::Detections(detections(input)),
    }
}

fn fit(input: &mut Input) -> Fit {
    let original = Size { width: input.u32() >> 20, height: input.u32() >> 20 };
    match input.byte() {
        0 => Fit { original, scale_x: input.f32(), scale_y: input.f32(), offset_x: input.f32(), offset_y: input.f32() },
        choice if choice & 1 == 1 => Fit::new(original, INPUT, Resize::Stretch),
        _ => Fit::new(original, INPUT, Resize::Letterbox { pad: 0 }),
    }
}

/// One frame's outputs, and the plan to read them with.
pub fn outputs(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (plan, fit) = (plan(&mut input), fit(&mut input));
    let tensors: Vec<_> = (0..input.below(6)).map(|_| tensor(&mut input)).collect();
    let names = ["t0", "t1", "t2", "t3", "t4"];
    let views: Vec<_> = tensors
        .iter()
        .zip(names)
        .map(|((shape, data), name)| TensorView { name, shape, values: data.values() })
        .collect();
    let mut decoder = plan.factory(INPUT).open();
    let found = decoder.decode(&views, &fit);
    let again = decoder.decode(&views, &fit);
    // By its text: a tensor's values may be no numbers, which equal nothing.
    assert_eq!(format!("{found:?}"), format!("{again:?}"), "the first decoding left something for the second");
    match found {
        Err(error) => assert!(!error.message.is_empty() && error.message.len() < 1000, "{error:?}"),
        Ok(Output::Detections(found)) => {
            let OutputPlan::Detections(plan) = &plan else { panic!("detections by {plan:?}") };
            assert!(found.len() <= plan.detections_max.min(plan.candidates_max));
            assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{found:?}");
            let (width, height) = (fit.original.width as f32, fit.original.height as f32);
            for d in found {
                assert!(d.score > 0.0 && d.score <= 1.0, "{d:?}");
                assert!(plan.score_min.is_nan() || d.score >= plan.score_min.min(1.0), "{d:?}");
                assert!(0.0 <= d.x1 && d.x1 < d.x2 && d.x2 <= width, "{d:?} in {fit:?}");
                assert!(0.0 <= d.y1 && d.y1 < d.y2 && d.y2 <= height, "{d:?} in {fit:?}");
                assert!(plan.only_classes.as_ref().is_none_or(|only| only.contains(&d.class)), "{d:?}");
                assert!(plan.class_count.is_none_or(|count| (d.class as usize) < count), "{d:?}");
            }
        }
        Ok(Output::Classes(found)) => {
            assert!(found.iter().all(|class| (0.0..=1.0).contains(&class.score)), "{found:?}");
            assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{found:?}");
        }
        Ok(Output::Embedding(values)) => assert!(values.iter().all(|value| value.is_finite()), "{values:?}"),
        Ok(Output::Tensors(_) | Output::Nothing) => {}
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    // Each layout once, at a usual size, with a tensor of rows of six, seven or eight and two behind it.
    let mut seeds = Vec::new();
    for layout in 0..5 {
        for columns in [4, 6, 7, 8] {
            let plan = [0, 7, 0, layout, 0, 0, 40, 100, 50, 1, 0, 0, 90, 0];
            let fit = [0, 0, 0, 16, 0, 0, 0, 8, 2];
            let first = [2, 10, columns, 9, 0];
            let values = (0..10 * columns).map(|at| if at % columns < 4 { 210 + at % 40 } else { 150 + at % 40 });
            let second = [2, 10, 3, 9, 0];
            let third = [1, 10, 9, 0];
            seeds.push(
                [&plan[..], &fit, &[3], &first]
                    .concat()
                    .into_iter()
                    .chain(values)
                    .chain(second)
                    .chain([180; 30])
                    .chain(third)
                    .chain([120; 10])
                    .collect(),
            );
        }
    }
    seeds.extend([vec![0, 0, 200], vec![0, 1, 1, 3, 20], vec![0, 2, 1]].map(|plan| {
        let fit = [0, 0, 0, 16, 0, 0, 0, 8, 1];
        [&plan[..], &fit, &[1, 1, 12, 9, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120]].concat()
    }));
    seeds
}
