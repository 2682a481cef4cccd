//! Writes frames of scenes with their truths, as a detector's trainer reads them.
//!
//! `--seed-from A --seeds N --cameras C --frames-per-scene K --step S --size WxH --out FILE`
//! writes frames 0, S, 2S, ... (K of them, begun at a frame that depends on the scene) of the
//! scenes (A..A+N) x (0..C). FILE may be `-` for standard output. All numbers little-endian:
//!
//! file    "OMSC", u32 version = 1, u32 width, u32 height, u32 frames, then each frame:
//! frame   u64 seed, u32 camera, u64 frame number, u32 truths, then each truth, then the
//!         picture: width x height x 3 bytes, packed RGB
//! truth   u8 class, u8 ignore, u16 zero, f32 x1, y1, x2, y2, visible (pixels; 24 bytes)
//!
//! With `--bench` nothing is written: it tells the time a frame takes instead.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use omma_scenes::{Scene, Scratch, Size, Truth};

struct Options {
    seed_from: u64,
    seeds: u64,
    cameras: u32,
    frames: u64,
    step: u64,
    size: Size,
    out: String,
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    if options.bench {
        return bench(&options);
    }
    let file: Box<dyn Write> = match options.out.as_str() {
        "-" => Box::new(io::stdout().lock()),
        path => Box::new(File::create(path)?),
    };
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let total = options.seeds * u64::from(options.cameras) * options.frames;
    out.write_all(b"OMSC")?;
    for number in [1, options.size.width, options.size.height, u32::try_from(total)?] {
        out.write_all(&number.to_le_bytes())?;
    }
    let mut picture = vec![0; options.size.bytes()];
    let mut scratch = Scratch::default();
    for (seed, camera) in scenes(&options) {
        let scene = Scene::new(seed, camera, options.size);
        for i in 0..options.frames {
            let frame = seed % 997 * 10 + i * options.step;
            let truths = scene.render_with(&mut scratch, frame, &mut picture)?;
            out.write_all(&seed.to_le_bytes())?;
            out.write_all(&camera.to_le_bytes())?;
            out.write_all(&frame.to_le_bytes())?;
            out.write_all(&u32::try_from(truths.len())?.to_le_bytes())?;
            for truth in truths {
                write_truth(&mut out, truth)?;
            }
            out.write_all(&picture)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn scenes(options: &Options) -> impl Iterator<Item = (u64, u32)> {
    let cameras = options.cameras;
    (options.seed_from..options.seed_from + options.seeds)
        .flat_map(move |seed| (0..cameras).map(move |camera| (seed, camera)))
}

fn write_truth(out: &mut impl Write, truth: &Truth) -> io::Result<()> {
    out.write_all(&[truth.class, truth.ignore.into(), 0, 0])?;
    for value in [truth.x1, truth.y1, truth.x2, truth.y2, truth.visible] {
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

fn bench(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut picture = vec![0; options.size.bytes()];
    let mut scratch = Scratch::default();
    let (mut first, mut rest, mut truths, mut slowest) = (Duration::ZERO, Duration::ZERO, 0, Duration::ZERO);
    let (mut scenes_done, mut frames) = (0u32, 0u32);
    for (seed, camera) in scenes(options) {
        let scene = Scene::new(seed, camera, options.size);
        let start = Instant::now();
        scene.render_with(&mut scratch, 0, &mut picture)?;
        first += start.elapsed();
        scenes_done += 1;
        for i in 0..options.frames {
            let start = Instant::now();
            truths += scene.render_with(&mut scratch, i * options.step, &mut picture)?.len();
            let took = start.elapsed();
            rest += took;
            slowest = slowest.max(took);
            frames += 1;
        }
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "first frame of a scene {:.1} ms, further frames {:.3} ms (slowest {:.3} ms), {:.1} things a frame",
        first.as_secs_f64() * 1e3 / f64::from(scenes_done.max(1)),
        rest.as_secs_f64() * 1e3 / f64::from(frames.max(1)),
        slowest.as_secs_f64() * 1e3,
        truths as f64 / f64::from(frames.max(1)),
    )?;
    Ok(())
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        seed_from: 1,
        seeds: 1,
        cameras: 1,
        frames: 10,
        step: 17,
        size: Size::default(),
        out: String::from("-"),
        bench: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        if name == "--bench" {
            options.bench = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--seed-from" => options.seed_from = value.parse()?,
            "--seeds" => options.seeds = value.parse()?,
            "--cameras" => options.cameras = value.parse()?,
            "--frames-per-scene" => options.frames = value.parse()?,
            "--step" => options.step = value.parse()?,
            "--out" => options.out = value,
            "--size" => {
                let (width, height) = value.split_once('x').ok_or("--size is WIDTHxHEIGHT")?;
                options.size = Size { width: width.parse()?, height: height.parse()? };
            }
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(options)
}
