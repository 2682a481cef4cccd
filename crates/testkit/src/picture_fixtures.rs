//! Pictures made for tests, in every format that cameras and folders deliver, and hostile ones.
//!
//! Pure Rust and deterministic, so that no binary fixture has to be kept. Panics on mistakes of the test.

use bytes::Bytes;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use omma_frame::{Payload, PixelFormat, RawPicture, Size};

/// An RGB picture to draw on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    pub size: Size,
    /// Rows of 3 bytes a pixel.
    pub rgb: Vec<u8>,
}

/// How a JPEG is made.
#[derive(Debug, Clone, Copy)]
pub struct JpegKind {
    pub quality: u8,
    pub sampling: SamplingFactor,
    pub progressive_scans: Option<u8>,
    /// In MCUs; zero is none.
    pub restart_interval: u16,
    pub gray: bool,
}

impl Default for JpegKind {
    /// What cameras send, at a quality that tests can compare: baseline 4:2:0.
    fn default() -> Self {
        Self { quality: 95, sampling: SamplingFactor::F_2_2, progressive_scans: None, restart_interval: 0, gray: false }
    }
}

impl Canvas {
    #[must_use]
    pub fn flat(size: Size, color: [u8; 3]) -> Self {
        Self { size, rgb: color.repeat(size.width as usize * size.height as usize) }
    }

    /// Slow waves in each channel and two boxes with hard edges: what a decoder must get right, without detail that
    /// differs between good decoders.
    #[must_use]
    pub fn scene(size: Size) -> Self {
        let mut canvas = Self::flat(size, [0; 3]);
        let Size { width, height } = size;
        for (i, pixel) in canvas.rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = (i as u32 % width, i as u32 / width);
            let wave = |period: u32, of: u32, at: u32| {
                (128.0 + 100.0 * (at as f32 * period as f32 * 3.1 / of as f32).sin()) as u8
            };
            pixel.copy_from_slice(&[wave(2, width, x), wave(3, height, y), wave(1, width + height, x + y)]);
        }
        canvas.fill((width / 8, height / 8), (width / 3, height / 2), [220, 210, 40]);
        canvas.fill((width / 2, height / 3), (width * 7 / 8, height * 3 / 4), [30, 60, 180]);
        canvas
    }

    /// The same for the same seed; has every frequency.
    #[must_use]
    pub fn noise(size: Size, seed: u32) -> Self {
        let mut canvas = Self::flat(size, [0; 3]);
        let mut state = seed | 1;
        for value in &mut canvas.rgb {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            *value = (state >> 11) as u8;
        }
        canvas
    }

    /// Fills the box from `from` up to, not including, `to`.
    pub fn fill(&mut self, from: (u32, u32), to: (u32, u32), color: [u8; 3]) {
        for y in from.1..to.1 {
            for x in from.0..to.0 {
                let at = (y as usize * self.size.width as usize + x as usize) * 3;
                self.rgb[at..at + 3].copy_from_slice(&color);
            }
        }
    }

    /// BT.601 luma.
    #[must_use]
    pub fn gray(&self) -> Vec<u8> {
        self.rgb.chunks_exact(3).map(|p| luma([p[0], p[1], p[2]]).round() as u8).collect()
    }

    #[must_use]
    pub fn jpeg(&self, kind: JpegKind) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, kind.quality);
        encoder.set_sampling_factor(kind.sampling);
        encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
        encoder.set_restart_interval(kind.restart_interval);
        if let Some(scans) = kind.progressive_scans {
            encoder.set_progressive_scans(scans);
        }
        let (width, height) = (self.size.width as u16, self.size.height as u16);
        if kind.gray {
            encoder.encode(&self.gray(), width, height, ColorType::Luma).expect("a grey JPEG");
        } else {
            encoder.encode(&self.rgb, width, height, ColorType::Rgb).expect("a JPEG");
        }
        bytes
    }

    /// Print colours, which no camera sends.
    #[must_use]
    pub fn cmyk_jpeg(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let cmyk: Vec<u8> = self.rgb.chunks_exact(3).flat_map(|p| [255 - p[0], 255 - p[1], 255 - p[2], 0]).collect();
        Encoder::new(&mut bytes, 90)
            .encode(&cmyk, self.size.width as u16, self.size.height as u16, ColorType::Cmyk)
            .expect("a CMYK JPEG");
        bytes
    }

    #[must_use]
    pub fn png(&self) -> Vec<u8> {
        png(self.size, png::ColorType::Rgb, png::BitDepth::Eight, &self.rgb)
    }

    /// # Panics
    /// NV12 and I420 of odd sizes do not exist.
    #[must_use]
    pub fn raw(&self, format: PixelFormat) -> Payload {
        let bytes = match format {
            PixelFormat::Rgb => self.rgb.clone(),
            PixelFormat::Bgr => self.rgb.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect(),
            PixelFormat::Gray => self.gray(),
            PixelFormat::Nv12 => {
                let (luma, pairs) = self.yuv();
                [luma, pairs.into_iter().flatten().collect()].concat()
            }
            PixelFormat::I420 => {
                let (luma, pairs) = self.yuv();
                let (u, v): (Vec<u8>, Vec<u8>) = pairs.into_iter().map(|[u, v]| (u, v)).unzip();
                [luma, u, v].concat()
            }
        };
        Payload::Raw(Box::new(RawPicture { bytes: bytes.into(), size: self.size, format }))
    }

    /// BT.601, video range: luma, and chroma averaged over 2x2 pixels.
    fn yuv(&self) -> (Vec<u8>, Vec<[u8; 2]>) {
        let Size { width, height } = self.size;
        assert!(width % 2 == 0 && height % 2 == 0, "no 4:2:0 picture of {width}x{height}");
        let at = |x: u32, y: u32| {
            let i = (y as usize * width as usize + x as usize) * 3;
            [self.rgb[i], self.rgb[i + 1], self.rgb[i + 2]]
        };
        let y =
            self.rgb.chunks_exact(3).map(|p| (16.0 + luma([p[0], p[1], p[2]]) * 219.0 / 255.0).round() as u8).collect();
        let mut pairs = Vec::new();
        for row in 0..height / 2 {
            for column in 0..width / 2 {
                let four =
                    [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| at(column * 2 + x, row * 2 + y).map(f32::from));
                let [r, g, b] = std::array::from_fn(|c| four.iter().map(|p: &[f32; 3]| p[c]).sum::<f32>() / 4.0);
                let u = 128.0 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255.0;
                let v = 128.0 + (112.0 * r - 93.786 * g - 18.214 * b) / 255.0;
                pairs.push([u.round() as u8, v.round() as u8]);
            }
        }
        (y, pairs)
    }
}

/// BT.601.
#[must_use]
pub fn luma(rgb: [u8; 3]) -> f32 {
    let [r, g, b] = rgb.map(f32::from);
    0.299 * r + 0.587 * g + 0.114 * b
}

/// A payload of encoded bytes.
#[must_use]
pub fn encoded(bytes: &[u8]) -> Payload {
    Payload::Encoded(Bytes::copy_from_slice(bytes))
}

/// `samples` are packed rows as PNG has them: big-endian, whole bytes to a row.
#[must_use]
pub fn png(size: Size, color: png::ColorType, depth: png::BitDepth, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == png::ColorType::Indexed {
        // Entry n is (n, 2n, 255 - n); entry 1 is half transparent.
        let palette: Vec<u8> = (0..=15u8).flat_map(|n| [n, n * 2, 255 - n]).collect();
        encoder.set_palette(palette);
        encoder.set_trns(vec![255, 128]);
    }
    encoder.write_header().expect("a PNG header").write_image_data(samples).expect("PNG samples");
    bytes
}

/// An 8-bit RGB PNG in Adam7's seven passes, which the encoder that the tests have cannot write: stored, not deflated.
#[must_use]
pub fn interlaced_png(canvas: &Canvas) -> Vec<u8> {
    const PASSES: [(usize, usize, usize, usize); 7] =
        [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)];
    let (width, height) = (canvas.size.width as usize, canvas.size.height as usize);
    let mut rows = Vec::new();
    for (x0, dx, y0, dy) in PASSES {
        for y in (y0..height).step_by(dy).filter(|_| x0 < width) {
            rows.push(0);
            for x in (x0..width).step_by(dx) {
                rows.extend_from_slice(&canvas.rgb[(y * width + x) * 3..][..3]);
            }
        }
    }
    let mut zlib = vec![0x78, 0x01];
    let blocks: Vec<&[u8]> = rows.chunks(65_535).collect();
    for (i, block) in blocks.iter().enumerate() {
        let len = block.len() as u16;
        zlib.push(u8::from(i + 1 == blocks.len()));
        zlib.extend(len.to_le_bytes());
        zlib.extend((!len).to_le_bytes());
        zlib.extend_from_slice(block);
    }
    let (a, b) = rows.iter().fold((1u32, 0u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    zlib.extend((b << 16 | a).to_be_bytes());

    let mut bytes = vec![0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A];
    let mut header = Vec::new();
    header.extend(canvas.size.width.to_be_bytes());
    header.extend(canvas.size.height.to_be_bytes());
    header.extend([8, 2, 0, 0, 1]);
    for (kind, data) in [(b"IHDR", &header), (b"IDAT", &zlib), (b"IEND", &Vec::new())] {
        bytes.extend((data.len() as u32).to_be_bytes());
        let checked = [&kind[..], data].concat();
        bytes.extend_from_slice(&checked);
        bytes.extend(crc(&checked).to_be_bytes());
    }
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

fn frame_header(jpeg: &[u8]) -> usize {
    jpeg.windows(2).position(|pair| pair[0] == 0xFF && (0xC0..=0xC2).contains(&pair[1])).expect("a frame header")
}

/// `jpeg` with another size in its frame header: what a header may claim costs its sender nothing.
#[must_use]
pub fn jpeg_claiming(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    let at =
        bytes.windows(2).position(|pair| pair[0] == 0xFF && (0xC0..=0xC2).contains(&pair[1])).expect("a frame header");
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// `jpeg` with other sampling factors for its first component: horizontal and vertical in one hexadecimal digit each.
#[must_use]
pub fn jpeg_sampled(jpeg: &[u8], factors: u8) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    let at = frame_header(&bytes);
    bytes[at + 11] = factors;
    bytes
}

/// `png` with another size in its header (and the checksum to go with it).
#[must_use]
pub fn png_claiming(png: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png.to_vec();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// `progressive` with its last scan repeated until there are `scans`: each costs a walk over the whole picture.
#[must_use]
pub fn scan_bomb(progressive: &[u8], scans: usize) -> Vec<u8> {
    let starts: Vec<usize> =
        progressive.windows(2).enumerate().filter(|(_, pair)| pair == &[0xFF, 0xDA]).map(|(at, _)| at).collect();
    let last = *starts.last().expect("a scan");
    let end = progressive.len() - 2;
    let mut bytes = progressive[..end].to_vec();
    for _ in starts.len()..scans {
        bytes.extend_from_slice(&progressive[last..end]);
    }
    bytes.extend([0xFF, 0xD9]);
    bytes
}
