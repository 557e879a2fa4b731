//! The analyser that also asks a model to describe the photo: any endpoint that speaks OpenAI's chat
//! completions, in the cloud or on the same machine.
//!
//! Invariant: what is measured is measured here; the endpoint adds words. It gets a picture of at most
//! 1,024 pixels without its metadata, and neither the photo's name nor anybody's.

use std::error::Error;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use image::{ExtendedColorType, RgbImage, codecs::jpeg::JpegEncoder};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::local::NAME;
use super::{AnalyzeError, Analyzer, Caption, Findings, LocalAnalyzer, Subject};

const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Quality of the picture that is sent, of 100.
const JPEG_QUALITY: u8 = 80;
/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 1_000;
/// The most tags, and the longest, in characters.
const MAX_TAGS: usize = 20;
const MAX_TAG: usize = 50;

const PROMPT: &str = "Describe this photo for the archive of the photographer who took it. Answer with one JSON \
    object and nothing else: {\"description\": string, one or two plain sentences; \"tags\": array of 3 to 12 \
    lower-case English keywords, the most important first}. Do not name people.";

/// Where to ask, and how.
#[derive(Debug, Clone)]
pub struct VisionSettings {
    /// The endpoint's base, such as `https://api.openai.com/v1`.
    pub url: String,
    /// Its key, where it wants one.
    pub key: Option<SecretString>,
    /// The model to ask.
    pub model: String,
    /// How long one answer may take, from the first byte sent to the last received.
    pub timeout: Duration,
}

/// Why an endpoint cannot be used. Never says the key.
#[derive(Debug, thiserror::Error)]
pub enum VisionSetupError {
    /// The address is none.
    #[error("the endpoint's address cannot be used")]
    Address,
    /// The key holds what no header can.
    #[error("the endpoint's key holds characters that a header cannot")]
    Key,
    /// The machine's TLS cannot be used.
    #[error("failed to set up the client")]
    Client(#[source] reqwest::Error),
}

/// Why an endpoint's answer was not one. What it said is not repeated: it may echo the request.
#[derive(Debug, thiserror::Error)]
enum VisionError {
    #[error("the endpoint does not answer")]
    Unreachable(#[source] reqwest::Error),
    #[error("the endpoint answers {0}")]
    Status(u16),
    #[error("the endpoint's answer is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("the endpoint's answer is not {0}")]
    Unexpected(&'static str),
}

/// Measures as [`LocalAnalyzer`] does, and asks a model for a description and tags.
#[derive(Debug)]
pub struct VisionAnalyzer {
    local: LocalAnalyzer,
    client: Client,
    endpoint: Url,
    model: String,
    name: String,
}

impl VisionAnalyzer {
    /// An analyser that asks this endpoint. Nothing is sent yet.
    ///
    /// # Errors
    /// Address or key cannot be used.
    pub fn new(local: LocalAnalyzer, settings: &VisionSettings) -> Result<Self, VisionSetupError> {
        let endpoint = format!("{}/chat/completions", settings.url.trim_end_matches('/'));
        let endpoint = Url::parse(&endpoint).map_err(|_| VisionSetupError::Address)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &settings.key {
            let bearer = format!("Bearer {}", key.expose_secret());
            let mut bearer = HeaderValue::try_from(bearer).map_err(|_| VisionSetupError::Key)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT)
            .timeout(settings.timeout)
            // Photo and key go where the operator said, and nowhere else.
            .redirect(Policy::none())
            .build()
            .map_err(VisionSetupError::Client)?;
        Ok(Self {
            local,
            client,
            endpoint,
            name: format!("{NAME}+{}", settings.model),
            model: settings.model.clone(),
        })
    }

    async fn ask(&self, picture: &[u8]) -> Result<Caption, VisionError> {
        let data_url = format!("data:image/jpeg;base64,{}", STANDARD.encode(picture));
        let question = json!({
            "model": self.model,
            "response_format": { "type": "json_object" },
            "messages": [{ "role": "user", "content": [
                { "type": "text", "text": PROMPT },
                { "type": "image_url", "image_url": { "url": data_url } },
            ]}],
        });
        let unreachable = |error: reqwest::Error| VisionError::Unreachable(error.without_url());
        let request = self.client.post(self.endpoint.clone());
        let sent = request.body(question.to_string()).send().await;
        let mut answer = sent.map_err(unreachable)?;
        if !answer.status().is_success() {
            return Err(VisionError::Status(answer.status().as_u16()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(VisionError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        caption(&body)
    }
}

impl Analyzer for VisionAnalyzer {
    fn name(&self) -> &str {
        &self.name
    }

    fn analyze<'a>(
        &'a self,
        subject: Subject<'a>,
    ) -> BoxFuture<'a, Result<Findings, AnalyzeError>> {
        async move {
            // Kept until the endpoint has answered: a slow one is not asked by ever more at once.
            let _place = self.local.enter()?;
            let (measured, picture) = self.local.measured(subject, encoded).await?;
            let picture = picture.map_err(unavailable)?;
            let caption = self.ask(&picture).await.map_err(unavailable)?;
            Ok(Findings {
                measured,
                caption: Some(caption),
            })
        }
        .boxed()
    }
}

fn unavailable(error: impl Error + Send + Sync + 'static) -> AnalyzeError {
    AnalyzeError::Unavailable(Box::new(error))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "runs on the pool, which gives the image away"
)]
fn encoded(image: RgbImage) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    let (width, height) = image.dimensions();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode(
        &image,
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

/// Reads an endpoint's answer: an envelope, whose message is a JSON text.
fn caption(body: &[u8]) -> Result<Caption, VisionError> {
    #[derive(Deserialize)]
    struct Envelope {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        content: String,
    }
    #[derive(Deserialize)]
    struct Words {
        description: String,
        tags: Vec<String>,
    }
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|_| VisionError::Unexpected("a chat completion with a text"))?;
    let content = envelope.choices.first().map(|c| c.message.content.as_str());
    // Models like to wrap JSON into a fence of Markdown, also when they are told not to.
    let text = content.unwrap_or_default().trim();
    let text = text.strip_prefix("```json").unwrap_or(text);
    let text = text.trim_matches('`').trim();
    let words: Words = serde_json::from_str(text)
        .map_err(|_| VisionError::Unexpected("a description and tags as JSON"))?;
    let description = plain(&words.description, MAX_DESCRIPTION);
    if description.is_empty() {
        return Err(VisionError::Unexpected("a description"));
    }
    let mut tags = Vec::new();
    for tag in words.tags {
        let tag = plain(&tag.to_lowercase(), MAX_TAG);
        if !tag.is_empty() && !tags.contains(&tag) && tags.len() < MAX_TAGS {
            tags.push(tag);
        }
    }
    Ok(Caption { description, tags })
}

/// One line of at most so many characters, none of them a control character.
fn plain(text: &str, most: usize) -> String {
    let words: Vec<_> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line: String = words.join(" ").chars().take(most).collect();
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope(content: &str) -> Vec<u8> {
        json!({ "choices": [{ "message": { "role": "assistant", "content": content } }] })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn words_are_read_with_or_without_a_fence() {
        let words =
            r#"{"description": "A cup of\ncoffee.", "tags": ["Coffee", "cup", "coffee", ""]}"#;
        for content in [
            words.to_owned(),
            format!("```json\n{words}\n```"),
            format!("```\n{words}```"),
        ] {
            let caption = caption(&envelope(&content)).unwrap();
            assert_eq!(caption.description, "A cup of coffee.");
            assert_eq!(caption.tags, ["coffee", "cup"]);
        }
    }

    #[test]
    fn what_is_no_caption_is_refused() {
        for content in [
            "",
            "a cup",
            "{}",
            r#"{"description": " ", "tags": []}"#,
            r#"{"description": 1, "tags": []}"#,
        ] {
            assert!(caption(&envelope(content)).is_err(), "{content}");
        }
        for body in [
            "",
            "null",
            "{}",
            r#"{"choices": []}"#,
            r#"{"choices": [{"message": {"content": null}}]}"#,
        ] {
            assert!(caption(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn words_are_bounded_whatever_the_model_says(description in ".{1,3000}", tags in proptest::collection::vec(".{0,80}", 0..40)) {
            let content = json!({ "description": description, "tags": tags }).to_string();
            if let Ok(caption) = caption(&envelope(&content)) {
                prop_assert!(caption.description.chars().count() <= MAX_DESCRIPTION);
                prop_assert!(caption.tags.len() <= MAX_TAGS);
                prop_assert!(caption.tags.iter().all(|tag| (1..=MAX_TAG).contains(&tag.chars().count())));
                prop_assert!(!caption.description.chars().any(char::is_control));
            }
        }
    }
}
