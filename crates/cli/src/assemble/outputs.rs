//! What the configuration says of a model's outputs, as the engine's plan for reading them.

use omma_config::{self as config, Decoder, OutputConfig};
use omma_engine::infer::backend::TensorInfo;
use omma_engine::post::decode::{
    Activation, AnchorAxis, Background, BoxForm, BoxUnits, ClassesPlan, Count, DetectionLayout, DetectionsPlan,
    EmbeddingPlan, NmsPlan, OutputPlan, TensorsPlan, guess,
};
use omma_frame::Size;

/// The plan, and why if it was guessed.
///
/// # Errors
/// The decoder is `auto` and the outputs leave doubts, or settings contradict the decoder that was guessed.
pub fn plan(
    written: &OutputConfig,
    outputs: &[TensorInfo],
    input: Size,
) -> Result<(OutputPlan, Option<String>), String> {
    let class_count = (!written.labels.is_empty()).then_some(written.labels.len());
    let (mut plan, why) = match named(written) {
        Some(plan) => (plan, None),
        None => {
            let guessed =
                guess(outputs, input, class_count).map_err(|message| format!("{message}; set output.decoder"))?;
            (guessed.plan, Some(guessed.why))
        }
    };
    match &mut plan {
        OutputPlan::Detections(detections) => limit(detections, written, class_count),
        OutputPlan::Classes(classes) => {
            classes.top = written.top_k.unwrap_or(classes.top);
            classes.score_min = written.score_min.unwrap_or(classes.score_min);
            classes.activation = written.activation.map_or(classes.activation, activation);
            classes.tensor = written.tensor.clone().or(classes.tensor.take());
        }
        OutputPlan::Embedding(embedding) => {
            embedding.normalize = written.normalize.unwrap_or(embedding.normalize);
            embedding.tensor = written.tensor.clone().or(embedding.tensor.take());
        }
        OutputPlan::Tensors(_) | OutputPlan::Nothing => {}
    }
    let problems = plan.problems();
    if problems.is_empty() {
        return Ok((plan, why));
    }
    let said: Vec<_> = problems
        .iter()
        .map(|problem| format!("output.{}: found {}, expected {}", problem.key, problem.found, problem.expected))
        .collect();
    Err(said.join("; "))
}

/// The plan of a decoder that the configuration names.
fn named(written: &OutputConfig) -> Option<OutputPlan> {
    let tensor = || written.tensor.clone();
    let form = written.box_form.map_or(BoxForm::CornersXFirst, form);
    let layout = match written.decoder {
        Decoder::Auto => return None,
        Decoder::Nothing => return Some(OutputPlan::Nothing),
        Decoder::Tensors => {
            let plan = TensorsPlan { names: written.tensors.clone(), ..TensorsPlan::default() };
            return Some(OutputPlan::Tensors(TensorsPlan {
                values_max: written.values_max.unwrap_or(plan.values_max),
                ..plan
            }));
        }
        Decoder::Classes => return Some(OutputPlan::Classes(ClassesPlan::default())),
        Decoder::Embedding => return Some(OutputPlan::Embedding(EmbeddingPlan::default())),
        Decoder::YoloV5 => DetectionLayout::Objectness { tensor: tensor() },
        Decoder::YoloV8 => {
            DetectionLayout::Anchors { tensor: tensor(), axis: written.anchor_axis.map_or(AnchorAxis::Auto, axis) }
        }
        Decoder::YoloEnd2End => DetectionLayout::EndToEnd { tensor: tensor() },
        Decoder::Ssd => DetectionLayout::BoxesAndScores {
            boxes: written.boxes.clone(),
            scores: written.scores.clone(),
            form,
            background: written.background.map_or(Background::None, background),
            activation: written.activation.map_or(Activation::None, activation),
        },
        Decoder::Listed => DetectionLayout::Listed {
            class_first: written.class_first.unwrap_or(0),
            boxes: written.boxes.clone(),
            classes: written.classes.clone(),
            scores: written.scores.clone(),
            count: written.count.clone().map_or(Count::None, Count::Named),
            form: written.box_form.map_or(BoxForm::CornersYFirst, self::form),
        },
    };
    Some(OutputPlan::Detections(DetectionsPlan::new(layout)))
}

fn limit(plan: &mut DetectionsPlan, written: &OutputConfig, class_count: Option<usize>) {
    plan.score_min = written.score_min.unwrap_or(plan.score_min);
    plan.candidates_max = written.candidates_max.unwrap_or(plan.candidates_max);
    plan.detections_max = written.detections_max.unwrap_or(plan.detections_max);
    plan.units = written.box_units.map_or(plan.units, units);
    plan.only_classes = written.only_classes.clone().or(plan.only_classes.take());
    plan.class_count = class_count.or(plan.class_count);
    if written.iou_max.is_some() || written.class_agnostic.is_some() {
        let nms = plan.nms.unwrap_or_default();
        plan.nms = Some(NmsPlan {
            iou_max: written.iou_max.unwrap_or(nms.iou_max),
            across_classes: written.class_agnostic.unwrap_or(nms.across_classes),
        });
    }
}

fn activation(word: config::Activation) -> Activation {
    match word {
        config::Activation::None => Activation::None,
        config::Activation::Softmax => Activation::Softmax,
        config::Activation::Sigmoid => Activation::Sigmoid,
    }
}

fn axis(word: config::AnchorAxis) -> AnchorAxis {
    match word {
        config::AnchorAxis::Auto => AnchorAxis::Auto,
        config::AnchorAxis::First => AnchorAxis::First,
        config::AnchorAxis::Last => AnchorAxis::Last,
    }
}

fn form(word: config::BoxForm) -> BoxForm {
    match word {
        config::BoxForm::CornersXFirst => BoxForm::CornersXFirst,
        config::BoxForm::CornersYFirst => BoxForm::CornersYFirst,
        config::BoxForm::Center => BoxForm::Center,
    }
}

fn units(word: config::BoxUnits) -> BoxUnits {
    match word {
        config::BoxUnits::InputPixels => BoxUnits::InputPixels,
        config::BoxUnits::Normalized => BoxUnits::Normalized,
    }
}

fn background(word: config::Background) -> Background {
    match word {
        config::Background::None => Background::None,
        config::Background::First => Background::First,
        config::Background::Last => Background::Last,
    }
}
