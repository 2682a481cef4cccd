//! Scores detections against an export's truths: `score EXPORT DETECTIONS [CONFIDENCE]`.
//!
//! EXPORT is a file of the `export` example; DETECTIONS has a line per detection, in pixels of
//! the picture: `index class score x1 y1 x2 y2`, where index counts the export's frames from 0.
//! Prints one line of overall figures, then one per class.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};

use omma_scenes::{CLASSES, ScoredBox, Scorer, Truth};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [export, detections, rest @ ..] = words.as_slice() else {
        return Err("usage: score EXPORT DETECTIONS [CONFIDENCE]".into());
    };
    let confidence = rest.first().map_or(Ok(0.5), |word| word.parse::<f32>())?;
    let mut file = BufReader::new(File::open(export)?);
    if &take::<4>(&mut file)? != b"OMSC" || number(&mut file)? != 1 {
        return Err("not an export of version 1".into());
    }
    let (width, height, frames) = (number(&mut file)?, number(&mut file)?, number(&mut file)?);
    let mut said: Vec<Vec<ScoredBox>> = vec![Vec::new(); frames as usize];
    for line in fs::read_to_string(detections)?.lines() {
        let (index, detection) = parse(line).ok_or_else(|| format!("not a detection: {line}"))?;
        said.get_mut(index).ok_or_else(|| format!("no frame {index}"))?.push(detection);
    }
    let mut scorer = Scorer::new(CLASSES).at_confidence(confidence);
    let mut truths = Vec::new();
    for detections in &said {
        take::<20>(&mut file)?;
        truths.clear();
        for _ in 0..number(&mut file)? {
            truths.push(truth(&mut file)?);
        }
        file.seek_relative(i64::from(width) * i64::from(height) * 3)?;
        scorer.add(&truths, detections);
    }
    let score = scorer.finish();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "all: pictures {} truths {} mAP@0.5 {:.4} precision {:.4} recall {:.4} (at {})",
        score.pictures, score.truths, score.map50, score.precision, score.recall, score.confidence
    )?;
    for class in score.per_class {
        let ap = class.ap50.map_or(String::from("-"), |ap| format!("{ap:.4}"));
        writeln!(
            out,
            "{}: truths {} AP@0.5 {ap} precision {:.4} recall {:.4}",
            class.name, class.truths, class.precision, class.recall
        )?;
    }
    Ok(())
}

fn parse(line: &str) -> Option<(usize, ScoredBox)> {
    let mut words = line.split_whitespace();
    let index = words.next()?.parse().ok()?;
    let class = words.next()?.parse().ok()?;
    let mut next = || words.next()?.parse::<f32>().ok();
    let detection = ScoredBox { class, score: next()?, x1: next()?, y1: next()?, x2: next()?, y2: next()? };
    Some((index, detection))
}

fn truth(file: &mut impl Read) -> io::Result<Truth> {
    let [class, ignore, ..] = take::<4>(file)?;
    let mut next = || take::<4>(file).map(f32::from_le_bytes);
    let (x1, y1, x2, y2, visible) = (next()?, next()?, next()?, next()?, next()?);
    Ok(Truth { class, x1, y1, x2, y2, visible, ignore: ignore != 0, id: 0 })
}

fn number(file: &mut impl Read) -> io::Result<u32> {
    take::<4>(file).map(u32::from_le_bytes)
}

fn take<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
