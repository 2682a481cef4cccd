//! What holds for every scene, and that no plan and no tensor whatsoever makes a decoder panic.

use proptest::prelude::*;

use super::*;

/// Boxes inside a picture of up to 4000 x 3000, far enough apart not to suppress one another, and how they are
/// placed in the input.
fn scenes() -> impl Strategy<Value = (Fit, Vec<Detection>)> {
    let resize = prop_oneof![Just(Resize::Stretch), Just(Resize::Letterbox { pad: 0 })];
    (
        40..4000u32,
        40..3000u32,
        resize,
        prop::collection::vec((0..3u32, 0.3f32..0.99, prop::array::uniform4(0.0f32..0.4)), 0..16),
    )
        .prop_map(|(width, height, resize, things)| {
            let original = Size { width, height };
            // One box in each cell of a four by four grid.
            let (cell_x, cell_y) = (width as f32 / 4.0, height as f32 / 4.0);
            let boxes = things.into_iter().enumerate().map(|(i, (class, score, [a, b, c, d]))| {
                let (x, y) = ((i % 4) as f32, (i / 4) as f32);
                let x = [x + a, x + 1.0 - b].map(|x| x * cell_x);
                let y = [y + c, y + 1.0 - d].map(|y| y * cell_y);
                detection(class, score, [x[0], y[0], x[1], y[1]])
            });
            (Fit::new(original, INPUT, resize), boxes.collect())
        })
}

proptest! {
    #[test]
    fn what_a_model_says_is_what_comes_out((fit, mut boxes) in scenes(), family in prop::sample::select(&FAMILIES[..])) {
        let to_input = |d: &Detection| {
            let (x, y) = (|x: f32| x * fit.scale_x + fit.offset_x, |y: f32| y * fit.scale_y + fit.offset_y);
            (d.class, d.score, [x(d.x1), y(d.y1), x(d.x2), y(d.y2)])
        };
        let things: Vec<Thing> = boxes.iter().map(to_input).collect();
        let found = detections(&family.plan(), &views(&family.encode(&things)), &fit);
        let Ok(mut found) = found else { return Err(TestCaseError::fail(format!("{found:?}"))) };
        prop_assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        // Scores may round to equals on their way, so the order of the things is the boxes'.
        for boxes in [&mut boxes, &mut found] {
            boxes.sort_by(|a, b| a.x1.total_cmp(&b.x1).then(a.y1.total_cmp(&b.y1)));
        }
        let place = |d: &Detection| {
            let cell = |value: f32, size: u32| (value * 4.0 / size as f32) as u32;
            (cell((d.x1 + d.x2) / 2.0, fit.original.width), cell((d.y1 + d.y2) / 2.0, fit.original.height))
        };
        boxes.sort_by_key(place);
        found.sort_by_key(place);
        let pixel = 1e-5 * 64.0 / fit.scale_x.min(fit.scale_y);
        prop_assert!(close(&found, &boxes, pixel.max(1e-2)), "{:?} by {:?}, expected {:?}", found, family, boxes);
    }

    #[test]
    fn rows_and_planes_say_the_same(
        (anchors, mut values) in (1..40usize).prop_flat_map(|n| (Just(n), prop::collection::vec(0.0f32..1.0, n * 7))),
        nan in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        if let Some(nan) = nan {
            let at = nan.index(values.len());
            values[at] = f32::NAN;
        }
        let boxes = DetectionsPlan { units: BoxUnits::Normalized, ..Family::AnchorsFirst.plan() };
        let by_rows = detections(&boxes, &[tensor("o", &[anchors, 7], &values)], &fit_one_to_one());
        let boxes = DetectionsPlan { units: BoxUnits::Normalized, ..Family::AnchorsLast.plan() };
        let by_planes = detections(&boxes, &[tensor("o", &[7, anchors], &transposed(&values, 7))], &fit_one_to_one());
        prop_assert_eq!(by_rows.map_err(|_| ()), by_planes.map_err(|_| ()));
    }
}

fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![4 => 0.0f32..1.0, 2 => -100.0f32..100.0, 1 => any::<f32>(), 1 => any::<u32>().prop_map(f32::from_bits)]
}

#[derive(Debug, Clone)]
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

/// A tensor of any small shape; now and then its values do not fill it, or the shape is absurd.
fn any_tensor() -> impl Strategy<Value = (Vec<usize>, Data)> {
    let dim = prop_oneof![6 => 0..9usize, 1 => Just(1), 2 => Just(4), 2 => Just(6), 1 => Just(84)];
    let shape = prop::collection::vec(dim, 0..4);
    (shape, prop::option::weighted(0.05, Just(usize::MAX)), 0..30u8, any::<bool>()).prop_flat_map(
        |(mut shape, absurd, dtype, short)| {
            let length: usize = shape.iter().product();
            shape.extend(absurd);
            let length = if short && dtype == 29 { length / 2 } else { length };
            let data = match dtype {
                0 => prop::collection::vec(any::<u8>(), length).prop_map(Data::U8).boxed(),
                1 => prop::collection::vec(any::<i32>(), length).prop_map(Data::I32).boxed(),
                2 => prop::collection::vec(any::<i64>(), length).prop_map(Data::I64).boxed(),
                _ => prop::collection::vec(any_value(), length).prop_map(Data::F32).boxed(),
            };
            (Just(shape), data)
        },
    )
}

/// Outputs that go together, so that the arbitrary values are really read: any tensors, or one family's shapes.
fn any_outputs() -> impl Strategy<Value = (OutputPlan, Vec<(Vec<usize>, Data)>)> {
    let family = prop::sample::select(&FAMILIES[..]);
    let fitting = (family, 0..30usize).prop_flat_map(|(family, rows)| {
        let things = vec![(0, 0.5, [0.0; 4]); rows];
        let tensors: Vec<_> = family
            .encode(&things)
            .into_iter()
            .map(|(_, shape, encoded)| {
                // Half of the values as encoded, so that some frames pass as a whole.
                let values: Vec<_> =
                    encoded.into_iter().map(|value| prop_oneof![8 => Just(value), 1 => any_value()].boxed()).collect();
                (Just(shape), values.prop_map(Data::F32))
            })
            .collect();
        (Just(OutputPlan::Detections(family.plan())), tensors)
    });
    let any = (any_plan(), prop::collection::vec(any_tensor(), 0..5));
    prop_oneof![fitting, any]
}

fn any_plan() -> impl Strategy<Value = OutputPlan> {
    let activation = prop::sample::select(&[Activation::None, Activation::Softmax, Activation::Sigmoid][..]);
    let axis = prop::sample::select(&[AnchorAxis::Auto, AnchorAxis::First, AnchorAxis::Last][..]);
    let detector = (prop::sample::select(&FAMILIES[..]), axis, any::<bool>()).prop_map(|(family, axis, strict)| {
        let mut plan = family.plan();
        if let DetectionLayout::Anchors { axis: configured, .. } = &mut plan.layout {
            *configured = axis;
        }
        OutputPlan::Detections(DetectionsPlan { class_count: strict.then_some(CLASSES), ..plan })
    });
    prop_oneof![
        4 => detector,
        1 => Just(OutputPlan::Tensors(TensorsPlan { names: vec![], values_max: 50 })),
        1 => (activation, any_value(), 0..9usize).prop_map(|(activation, score_min, top)| {
            OutputPlan::Classes(ClassesPlan { tensor: None, activation, top, score_min })
        }),
        1 => any::<bool>().prop_map(|normalize| OutputPlan::Embedding(EmbeddingPlan { tensor: None, normalize })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_output_makes_a_decoder_panic_or_break_its_word(
        (mut plan, outputs) in any_outputs(),
        (score_min, iou_max, candidates_max, detections_max) in (any_value(), any_value(), 0..20usize, 0..20usize),
        (width, height) in (0..500u32, 0..500u32),
        scale in prop::option::weighted(0.1, prop::array::uniform4(any_value())),
    ) {
        if let OutputPlan::Detections(detections) = &mut plan {
            detections.score_min = score_min;
            detections.candidates_max = candidates_max;
            detections.detections_max = detections_max;
            if let Some(nms) = &mut detections.nms {
                nms.iou_max = iou_max;
            }
        }
        let original = Size { width, height };
        let mut fit = Fit::new(original, INPUT, Resize::Letterbox { pad: 0 });
        if let Some([scale_x, scale_y, offset_x, offset_y]) = scale {
            fit = Fit { original, scale_x, scale_y, offset_x, offset_y };
        }
        let views: Vec<_> = outputs
            .iter()
            .map(|(shape, data)| TensorView { name: "x", shape, values: data.values() })
            .collect();
        match open(&plan).decode(&views, &fit) {
            Err(error) => prop_assert!(!error.message.is_empty()),
            Ok(Output::Detections(found)) => {
                prop_assert!(found.len() <= detections_max.min(candidates_max));
                prop_assert!(found.is_sorted_by(|a, b| a.score >= b.score));
                for d in found {
                    prop_assert!(d.score > 0.0 && d.score <= 1.0, "{:?}", d);
                    prop_assert!(score_min.is_nan() || d.score >= score_min.min(1.0), "{:?} from {}", d, score_min);
                    prop_assert!(0.0 <= d.x1 && d.x1 < d.x2 && d.x2 <= width as f32, "{:?}", d);
                    prop_assert!(0.0 <= d.y1 && d.y1 < d.y2 && d.y2 <= height as f32, "{:?}", d);
                }
            }
            Ok(Output::Classes(found)) => {
                prop_assert!(found.iter().all(|class| (0.0..=1.0).contains(&class.score)));
            }
            Ok(Output::Embedding(values)) => prop_assert!(values.iter().all(|value| value.is_finite())),
            Ok(Output::Tensors(_) | Output::Nothing) => {}
        }
    }
}
