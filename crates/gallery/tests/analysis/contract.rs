//! What every analyser keeps to, and how the one that asks an endpoint bears its faults.

use std::error::Error as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures_util::FutureExt as _;
use image::ImageFormat;
use rawdrive_gallery::BlobError;
use rawdrive_gallery::analysis::{
    AnalyzeError, Analyzer, LocalAnalyzer, PixelFormat, Subject, VisionAnalyzer, VisionSettings,
};
use serde_json::json;

use crate::endpoint::{Endpoint, KEY, Manner, PATIENCE};
use crate::{PHOTOS, analyzed, decoded, encoded, measured};

/// The tests that an analyser passes whatever it is made of. `$make` makes one on the given pool.
macro_rules! analyzer_contract {
    ($adapter:ident, $make:expr) => {
        mod $adapter {
            use super::*;

            #[tokio::test]
            async fn the_same_bytes_measure_the_same_and_as_everybody_measures_them() {
                let made = $make(LocalAnalyzer::new()).await;
                let analyzer = made.analyzer();
                for (name, format, bytes) in PHOTOS {
                    let found = analyzed(analyzer, format, bytes).await.expect(name);
                    assert_eq!(found.measured, measured(format, bytes).await, "{name}");
                    let again = analyzed(analyzer, format, bytes).await.expect(name);
                    assert_eq!(found.measured, again.measured, "{name}");
                }
                assert!(!analyzer.name().is_empty() && analyzer.name().len() <= 200);
            }

            #[tokio::test]
            async fn damaged_pixels_are_final() {
                let made = $make(LocalAnalyzer::new()).await;
                let (_, format, whole) = PHOTOS[0];
                let middle = whole.len() / 2;
                let mut scribbled = whole.to_vec();
                scribbled[middle..middle + 2000].fill(0xA5);
                for bytes in [scribbled, whole[..middle].to_vec(), b"\x89PNG".to_vec()] {
                    let refused = analyzed(made.analyzer(), format, bytes).await;
                    assert!(
                        matches!(refused, Err(AnalyzeError::Damaged(_))),
                        "{refused:?}"
                    );
                }
                assert_eq!(made.asked(), 0, "nobody is asked about what cannot be seen");
            }

            #[tokio::test]
            async fn bytes_that_do_not_come_may_come_later() {
                let made = $make(LocalAnalyzer::new()).await;
                let subject = Subject {
                    format: PixelFormat::Png,
                    size_bytes: 1_000,
                    bytes: async { Err(BlobError::Missing) }.boxed(),
                };
                let refused = made.analyzer().analyze(subject).await;
                assert!(
                    matches!(refused, Err(AnalyzeError::Unavailable(_))),
                    "{refused:?}"
                );
            }

            #[tokio::test]
            async fn a_full_pool_refuses_at_once() {
                let made = $make(LocalAnalyzer::with_pool(1, 0)).await;
                let analyzer = made.analyzer();
                let stuck = Subject {
                    format: PixelFormat::Png,
                    size_bytes: 1_000,
                    bytes: std::future::pending().boxed(),
                };
                let mut first = analyzer.analyze(stuck);
                assert!((&mut first).now_or_never().is_none());
                let refused = analyzed(analyzer, PixelFormat::Png, PHOTOS[0].2).await;
                assert!(matches!(refused, Err(AnalyzeError::Busy)), "{refused:?}");
                drop(first);
                assert!(
                    analyzed(analyzer, PixelFormat::Png, PHOTOS[0].2)
                        .await
                        .is_ok()
                );
            }
        }
    };
}

analyzer_contract!(local, Local::make);
analyzer_contract!(vision, Vision::make);

struct Local(LocalAnalyzer);

impl Local {
    async fn make(pool: LocalAnalyzer) -> Self {
        Self(pool)
    }
    fn analyzer(&self) -> &dyn Analyzer {
        &self.0
    }
    fn asked(&self) -> usize {
        0
    }
}

struct Vision(Endpoint, VisionAnalyzer);

impl Vision {
    async fn make(pool: LocalAnalyzer) -> Self {
        let endpoint = Endpoint::good().await;
        let analyzer = endpoint.analyzer(pool);
        Self(endpoint, analyzer)
    }
    fn analyzer(&self) -> &dyn Analyzer {
        &self.1
    }
    fn asked(&self) -> usize {
        self.0.asked().len()
    }
}

#[tokio::test]
async fn the_endpoint_is_asked_once_with_a_small_picture_and_its_words_are_added() {
    let endpoint = Endpoint::good().await;
    let analyzer = endpoint.analyzer(LocalAnalyzer::new());
    let large = decoded(PHOTOS[2].2).resize(3000, 3000, image::imageops::FilterType::Triangle);
    let found = analyzed(
        &analyzer,
        PixelFormat::Jpeg,
        encoded(&large, ImageFormat::Jpeg),
    )
    .await;
    let caption = found.expect("an analysis").caption.expect("words");
    assert_eq!(caption.description, "A cup of coffee.");
    assert_eq!(caption.tags, ["coffee", "cup"]);
    assert_eq!(analyzer.name(), "local-1+see-all");

    let asked = endpoint.asked();
    let [asked] = asked.as_slice() else {
        panic!("asked {} times", asked.len());
    };
    assert!(
        asked
            .head
            .starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{}",
        asked.head
    );
    assert!(
        asked.head.contains(&format!("authorization: Bearer {KEY}")),
        "{}",
        asked.head
    );
    assert_eq!(asked.body["model"], "see-all");
    assert_eq!(asked.body["response_format"]["type"], "json_object");
    let url = asked.body["messages"][0]["content"][1]["image_url"]["url"].as_str();
    let picture = url.and_then(|url| url.strip_prefix("data:image/jpeg;base64,"));
    let picture = base64::engine::general_purpose::STANDARD
        .decode(picture.expect("a data URL"))
        .expect("base64");
    let picture = image::load_from_memory_with_format(&picture, ImageFormat::Jpeg).expect("a JPEG");
    assert_eq!((picture.width(), picture.height()), (1024, 683));
}

#[tokio::test]
async fn without_a_key_none_is_sent() {
    let endpoint = Endpoint::good().await;
    let settings = VisionSettings {
        url: format!("{}/", endpoint.url()),
        key: None,
        model: "m".to_owned(),
        timeout: PATIENCE,
    };
    let analyzer = VisionAnalyzer::new(LocalAnalyzer::new(), &settings).expect("good settings");
    assert!(
        analyzed(&analyzer, PixelFormat::Png, PHOTOS[0].2)
            .await
            .is_ok()
    );
    assert!(
        !endpoint.asked()[0]
            .head
            .to_lowercase()
            .contains("authorization")
    );
}

/// Everything that an error says, to whomever.
fn said(error: &AnalyzeError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(" {next} {next:?}"));
        cause = next.source();
    }
    text
}

#[tokio::test]
async fn an_endpoint_that_fails_makes_the_analysis_fail_and_never_tells_the_key() {
    let echo = json!({ "error": { "message": format!("no such key: {KEY}") } }).to_string();
    let answers = |status, body: &str| Manner::Answers(status, String::new(), body.into());
    let faults = [
        answers(500, "{}"),
        answers(401, &echo),
        answers(429, ""),
        answers(200, ""),
        answers(200, "<html>"),
        answers(200, &echo),
        answers(
            200,
            r#"{"choices":[{"message":{"content":"A cup of coffee."}}]}"#,
        ),
        Manner::Says(json!({ "description": 7 })),
        Manner::Says(json!(["coffee"])),
        Manner::BreaksOff,
    ];
    for fault in faults {
        let endpoint = Endpoint::start(fault.clone()).await;
        let analyzer = endpoint.analyzer(LocalAnalyzer::new());
        let failed = analyzed(&analyzer, PixelFormat::Png, PHOTOS[0].2).await;
        let Err(error @ AnalyzeError::Unavailable(_)) = failed else {
            panic!("{fault:?}: {failed:?}");
        };
        assert!(!said(&error).contains(KEY), "{fault:?}: {}", said(&error));
        assert!(!format!("{analyzer:?}").contains(KEY), "{analyzer:?}");
        assert_eq!(endpoint.asked().len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_or_floods_is_given_up() {
    for fault in [Manner::Hangs, Manner::Floods] {
        let endpoint = Endpoint::start(fault.clone()).await;
        let analyzer = endpoint.analyzer(LocalAnalyzer::with_pool(1, 0));
        let began = Instant::now();
        let failed = analyzed(&analyzer, PixelFormat::Png, PHOTOS[0].2).await;
        assert!(
            matches!(failed, Err(AnalyzeError::Unavailable(_))),
            "{fault:?}: {failed:?}"
        );
        assert!(
            began.elapsed() < PATIENCE + Duration::from_secs(8),
            "{fault:?}"
        );
        if matches!(fault, Manner::Floods) {
            let text = said(&failed.expect_err("it failed"));
            assert!(text.contains("larger than 262144 bytes"), "{text}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_unavailable() {
    let settings = VisionSettings {
        // Port 9 of this machine: nobody listens.
        url: "http://127.0.0.1:9".to_owned(),
        key: None,
        model: "m".to_owned(),
        timeout: PATIENCE,
    };
    let analyzer = VisionAnalyzer::new(LocalAnalyzer::new(), &settings).expect("good settings");
    let failed = analyzed(&analyzer, PixelFormat::Png, PHOTOS[0].2).await;
    assert!(
        matches!(failed, Err(AnalyzeError::Unavailable(_))),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Endpoint::good().await;
    for status in [301, 302, 307, 308] {
        let location = format!("location: {}/chat/completions\r\n", elsewhere.url());
        let endpoint = Endpoint::start(Manner::Answers(status, location, Vec::new())).await;
        let analyzer = endpoint.analyzer(LocalAnalyzer::new());
        let failed = analyzed(&analyzer, PixelFormat::Png, PHOTOS[0].2).await;
        assert!(
            matches!(failed, Err(AnalyzeError::Unavailable(_))),
            "{status}: {failed:?}"
        );
    }
    assert!(elsewhere.asked().is_empty(), "photo and key went elsewhere");
}

#[test]
fn a_key_that_no_header_can_hold_is_refused_without_being_told() {
    let settings = VisionSettings {
        url: "https://vision.example/v1".to_owned(),
        key: Some("sk-secret\nx: y".into()),
        model: "m".to_owned(),
        timeout: PATIENCE,
    };
    let refused = VisionAnalyzer::new(LocalAnalyzer::new(), &settings).expect_err("a bad key");
    assert!(!format!("{refused} {refused:?} {settings:?}").contains("sk-secret"));
}
