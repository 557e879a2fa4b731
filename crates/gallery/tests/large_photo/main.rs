//! What the renditions of a photo of 24 megapixels take. Alone in its process, whose memory is measured.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::io::Write as _;
use std::time::Instant;

use bytes::Bytes;
use image::{ExtendedColorType, ImageEncoder as _, Rgb, RgbImage};
use rawdrive_gallery::analysis::Decoders;
use rawdrive_gallery::renditions::{RenditionMaker, Renditions};
use rawdrive_gallery::testkit::photo;
use rawdrive_gallery::{Blobs, Photo};
use rawdrive_testkit::{MemoryStore, TestEnv, plan};

/// What the issue allows.
const ALLOWED_BYTES: u64 = 200_000_000;

/// A line of `/proc/self/status`, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// Of all threads, in milliseconds: user and system.
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    // Fields 14 and 15 of the line, in hundredths of a second.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_photo_of_24_megapixels_is_rendered_within_two_hundred_megabytes() {
    let test_env = TestEnv::seeded(1);
    let env = test_env.env();
    let store = MemoryStore::new(env.clone());
    let scope = store.workspace(&plan(&[])).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(directory.path()).unwrap();
    let bytes = {
        let image = RgbImage::from_fn(6_000, 4_000, |x, y| {
            // Slopes and grain, as photographs have them.
            let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 28;
            let slope = |n: u32| u8::try_from((n / 24 + grain) % 256).unwrap();
            Rgb([slope(x), slope(y), slope(x + y)])
        });
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90)
            .write_image(image.as_raw(), 6_000, 4_000, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    };
    let size_bytes = bytes.len() as u64;
    let photo = Photo {
        width: Some(6_000),
        height: Some(4_000),
        ..photo(env, env.id(), size_bytes)
    };
    let mut writer = blobs.create(&scope, photo.id).await.unwrap();
    writer.write(Bytes::from(bytes)).await.unwrap();
    writer.finish().await.unwrap();
    let maker = RenditionMaker::new(blobs, Decoders::with_threads(1));

    // The largest so far is forgotten (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, ms, began) = (memory("VmRSS"), processor_ms(), Instant::now());
    let made = maker.make(&scope, &photo, 1).await.unwrap();
    let (took, ms) = (began.elapsed(), processor_ms() - ms);
    let peak = memory("VmHWM") - before;
    let Renditions::Ready { thumb, web } = made else {
        panic!("{made:?}");
    };
    assert_eq!((web.width, web.height), (2_048, 1_365));
    assert_eq!((thumb.width, thumb.height), (400, 266));
    let report = format!(
        "a file of {size_bytes} bytes: {ms} ms of processor time, {took:?}, {} MB at most beside what was there; \
         thumb {} bytes, web {} bytes",
        peak / 1_000_000,
        thumb.size_bytes,
        web.size_bytes
    );
    assert!(peak < ALLOWED_BYTES, "{report}");
    writeln!(std::io::stderr(), "{report}").unwrap();
}
