//! The tour itself: each step says what it does, shows the request and the answer, and ends the tour when
//! the answer is not what it must be.

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::DemoError;
use super::wire::{Answer, Body, Request, Wire, pretty, quoted};

/// An image of the tour.
pub(super) struct Photo {
    pub(super) filename: &'static str,
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

macro_rules! photo {
    ($filename:literal, $content_type:literal) => {
        Photo {
            filename: $filename,
            content_type: $content_type,
            bytes: include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/assets/photos/",
                $filename
            )),
        }
    };
}

/// Their authors and licences are in `assets/photos/README.md`.
pub(super) const PHOTOS: &[Photo] = &[
    photo!("coffee.jpg", "image/jpeg"),
    photo!("chelsea.jpg", "image/jpeg"),
    photo!("camera.png", "image/png"),
    photo!("grass.webp", "image/webp"),
];

const EMAIL: &str = "mara@studio-lindqvist.example";
/// Of an account that is thrown away with its directory.
const PASSWORD: &str = "a throw-away demo passphrase";
const ORDINARY: RangeInclusive<u16> = 200..=200;
const CREATED: RangeInclusive<u16> = 201..=201;

/// What a tour needs.
pub(super) struct Tour<'t> {
    /// Where it is told.
    pub(super) out: &'t mut dyn Write,
    /// The way to the server.
    pub(super) wire: &'t mut dyn Wire,
    /// Runs this executable's `admin` beside the server.
    pub(super) admin: &'t mut dyn FnMut(&[&str]) -> std::io::Result<Output>,
    /// How the reader would run it.
    pub(super) admin_prefix: String,
    /// The directory in which the reader finds the images.
    pub(super) photos: &'t Path,
}

impl Tour<'_> {
    /// Walks the main job.
    ///
    /// # Errors
    /// The first step that is not answered as it must be.
    pub(super) fn walk(&mut self) -> Result<(), DemoError> {
        let signed_up = self.call(
            "Sign up: a user, a workspace on the free plan and a session in one request",
            post(
                "/v1/signup",
                None,
                json!({
                    "email": EMAIL,
                    "password": PASSWORD,
                    "name": "Mara Lindqvist",
                    "workspace_name": "Studio Lindqvist",
                }),
            ),
            &CREATED,
        )?;
        let token = text(&signed_up, "access_token")?;
        let workspace = text(&signed_up["workspace"], "id")?;
        self.explain_token()?;

        let library = self.call(
            "Create a library: a shelf of galleries",
            post("/v1/libraries", Some(&token), json!({ "name": "Weddings" })),
            &CREATED,
        )?;
        let gallery = self.call(
            "Create a gallery in it: a delivery of photos",
            post(
                "/v1/galleries",
                Some(&token),
                json!({
                    "library_id": text(&library, "id")?,
                    "name": "Emma and Noah, June",
                    "download": "original",
                }),
            ),
            &CREATED,
        )?;
        let gallery = text(&gallery, "id")?;
        let photos = self.upload_photos(&token, &gallery)?;
        self.deliver(&token, &gallery, &photos)?;
        self.meter(&token)?;
        self.upgrade(&token, &workspace)?;
        self.meet_a_limit(&token, &workspace, &gallery)
    }

    fn upload_photos(&mut self, token: &str, gallery: &str) -> Result<Vec<String>, DemoError> {
        let mut ids = Vec::new();
        for photo in PHOTOS {
            let stored = self.call(
                &format!("Upload {}: the image is the body", photo.filename),
                upload(token, gallery, photo, self.photos),
                &CREATED,
            )?;
            must(
                stored["size_bytes"] == photo.bytes.len(),
                "size_bytes is the file's size",
            )?;
            must(
                stored["content_type"] == photo.content_type,
                "content_type is the image's",
            )?;
            ids.push(text(&stored, "id")?);
        }
        Ok(ids)
    }

    fn deliver(&mut self, token: &str, gallery: &str, photos: &[String]) -> Result<(), DemoError> {
        let listed = self.call(
            "List the gallery's photos",
            get(format!("/v1/galleries/{gallery}/photos"), token),
            &ORDINARY,
        )?;
        let count = listed["items"].as_array().map(Vec::len);
        must(count == Some(PHOTOS.len()), "every photo is listed")?;
        let Some((id, photo)) = photos.first().zip(PHOTOS.first()) else {
            return Ok(());
        };
        let answer = self.send(
            "Download a part of one, as a browser that resumes does",
            Request {
                range: Some("bytes=0-15"),
                ..get(format!("/v1/photos/{id}/content"), token)
            },
            &(206..=206),
        )?;
        must(
            photo.bytes.get(..16) == Some(&answer.body[..]),
            "the bytes are those that were uploaded",
        )
    }

    fn meter(&mut self, token: &str) -> Result<(), DemoError> {
        let usage = self.call(
            "What has been used, of what the plan allows",
            get("/v1/usage", token),
            &ORDINARY,
        )?;
        let stored: usize = PHOTOS.iter().map(|photo| photo.bytes.len()).sum();
        let metrics = usage["metrics"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let storage = metrics
            .iter()
            .find(|metric| metric["metric"] == "storage_bytes");
        must(
            storage.is_some_and(|s| s["used"] == stored),
            "storage_bytes is the sum of the files",
        )?;

        let onboarding = self.call(
            "What is left to set up",
            get("/v1/onboarding", token),
            &ORDINARY,
        )?;
        let completed = onboarding["completed"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        must(
            completed.contains(&json!("first_library")),
            "the step first_library is completed",
        )
    }

    fn upgrade(&mut self, token: &str, workspace: &str) -> Result<(), DemoError> {
        let branding = json!({ "display_name": "Studio Lindqvist", "primary_color": "#1f6f78" });
        let refused = self.call(
            "Ask for a feature that the plan does not have",
            post("/v1/branding", Some(token), branding.clone()),
            &(402..=402),
        )?;
        must(
            refused["code"] == "feature_not_available",
            "code is feature_not_available",
        )?;
        must(
            refused["upgrade_url"].is_string(),
            "upgrade_url says where to get it",
        )?;

        self.operate(
            "An operator grants the professional plan",
            &[
                "admin",
                "set-plan",
                "--workspace",
                workspace,
                "--plan",
                "professional",
                "--reason",
                "demo",
                "--json",
            ],
        )?;
        self.call(
            "The same request again",
            post("/v1/branding", Some(token), branding),
            &(200..=299),
        )?;
        let audit = self.call(
            "Who changed what: the audit log, newest first",
            get("/v1/workspace/audit", token),
            &ORDINARY,
        )?;
        let entries = audit["items"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let changed = entries
            .iter()
            .any(|entry| entry["action"] == "plan.changed");
        must(changed, "the change of plan is in it")
    }

    /// The limit is set to what is stored already: the next photo is one too many.
    fn meet_a_limit(
        &mut self,
        token: &str,
        workspace: &str,
        gallery: &str,
    ) -> Result<(), DemoError> {
        let stored: usize = PHOTOS.iter().map(|photo| photo.bytes.len()).sum();
        self.operate(
            "An operator limits the workspace to what it stores already",
            &[
                "admin",
                "override",
                "--workspace",
                workspace,
                "--limit",
                &format!("storage_bytes={stored}"),
                "--reason",
                "demo",
                "--json",
            ],
        )?;
        let photo = &PHOTOS[0];
        let refused = self.call(
            "One photo more: the limit says no, with its numbers",
            upload(token, gallery, photo, self.photos),
            &(402..=402),
        )?;
        must(
            refused["code"] == "quota_exceeded",
            "code is quota_exceeded",
        )?;
        must(refused["limit"] == stored, "limit is the limit in force")
    }

    fn operate(&mut self, title: &str, arguments: &[&str]) -> Result<(), DemoError> {
        let shown: Vec<_> = arguments.iter().map(|argument| quoted(argument)).collect();
        let line = format!("{} {}", self.admin_prefix, shown.join(" "));
        self.title(title, &line)?;
        let output = (self.admin)(arguments).map_err(DemoError::Start)?;
        let answer = serde_json::from_slice(&output.stdout).map_or_else(
            |_| String::from_utf8_lossy(&output.stdout).into_owned(),
            pretty,
        );
        writeln!(self.out, "{}", commented(answer.trim_end()))?;
        if output.status.success() {
            Ok(())
        } else {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(DemoError::Command(said))
        }
    }

    /// The lines below say `$TOKEN`; this is how the reader comes by one of their own.
    fn explain_token(&mut self) -> Result<(), DemoError> {
        let session = post(
            "/v1/sessions",
            None,
            json!({ "email": EMAIL, "password": PASSWORD }),
        );
        let line = session.as_curl(self.wire.base());
        writeln!(
            self.out,
            "\n# To try the lines below, keep a token in the shell first:\n\
             TOKEN=$({line} | sed -E 's/.*\"access_token\": *\"([^\"]*)\".*/\\1/')"
        )?;
        Ok(())
    }

    fn call(
        &mut self,
        title: &str,
        request: Request,
        expected: &RangeInclusive<u16>,
    ) -> Result<Value, DemoError> {
        self.send(title, request, expected)
            .map(|answer| answer.json())
    }

    fn send(
        &mut self,
        title: &str,
        request: Request,
        expected: &RangeInclusive<u16>,
    ) -> Result<Answer, DemoError> {
        let line = request.as_curl(self.wire.base());
        self.title(title, &line)?;
        let answer = self.wire.send(&request).map_err(DemoError::NoAnswer)?;
        writeln!(self.out, "{}", commented(&answer.shown()))?;
        if expected.contains(&answer.status) {
            Ok(answer)
        } else {
            Err(DemoError::Status {
                request: format!("{} {}", request.method, request.path),
                status: answer.status,
                expected: expected.clone(),
            })
        }
    }

    fn title(&mut self, title: &str, line: &str) -> Result<(), DemoError> {
        writeln!(self.out, "\n# {title}\n{line}")?;
        self.out.flush()?;
        Ok(())
    }
}

/// An answer, so that it is none of what a reader pastes into a shell along with it.
fn commented(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("# {line}")).collect();
    lines.join("\n")
}

fn upload(token: &str, gallery: &str, photo: &Photo, directory: &Path) -> Request {
    Request {
        method: "POST",
        path: format!("/v1/galleries/{gallery}/photos?filename={}", photo.filename),
        token: Some(token.to_owned()),
        body: Body::Image {
            file: directory.join(photo.filename),
            content_type: photo.content_type,
            bytes: photo.bytes,
        },
        ..Request::default()
    }
}

fn get(path: impl Into<String>, token: &str) -> Request {
    Request {
        method: "GET",
        path: path.into(),
        token: Some(token.to_owned()),
        ..Request::default()
    }
}

fn post(path: &str, token: Option<&str>, body: Value) -> Request {
    Request {
        method: "POST",
        path: path.to_owned(),
        token: token.map(str::to_owned),
        body: Body::Json(body),
        ..Request::default()
    }
}

fn text(json: &Value, name: &'static str) -> Result<String, DemoError> {
    let found = json[name].as_str().map(str::to_owned);
    found.ok_or(DemoError::Untrue(
        "every answer has the members that the next request needs",
    ))
}

fn must(holds: bool, what: &'static str) -> Result<(), DemoError> {
    if holds {
        Ok(())
    } else {
        Err(DemoError::Untrue(what))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.the-whole-token.signature";

    /// A server that answers as it should, except where a test bends it.
    struct Scripted<F> {
        granted: bool,
        uploads: usize,
        bend: F,
    }

    impl<F: FnMut(&Request, &mut u16, &mut Value)> Wire for Scripted<F> {
        fn base(&self) -> &str {
            "http://127.0.0.1:9"
        }
        fn send(&mut self, request: &Request) -> Result<Answer, String> {
            if request.range.is_some() {
                return Ok(Answer {
                    status: 206,
                    body: PHOTOS[0].bytes[..16].to_vec(),
                });
            }
            let (mut status, mut body) = match (request.method, request.path.as_str()) {
                ("POST", "/v1/signup") => (
                    201,
                    json!({ "access_token": TOKEN, "workspace": { "id": "ws_1" } }),
                ),
                ("POST", "/v1/libraries") => (201, json!({ "id": "lib_1" })),
                ("POST", "/v1/galleries") => (201, json!({ "id": "gal_1" })),
                ("POST", path) if path.starts_with("/v1/galleries/gal_1/photos?") => {
                    let Body::Image {
                        bytes,
                        content_type,
                        ..
                    } = &request.body
                    else {
                        panic!()
                    };
                    self.uploads += 1;
                    let stored: usize = PHOTOS.iter().map(|p| p.bytes.len()).sum();
                    if self.uploads > PHOTOS.len() {
                        (402, json!({ "code": "quota_exceeded", "limit": stored }))
                    } else {
                        (
                            201,
                            json!({ "id": "pho_1", "size_bytes": bytes.len(), "content_type": content_type }),
                        )
                    }
                }
                ("GET", "/v1/galleries/gal_1/photos") => (200, json!({ "items": [1, 2, 3, 4] })),
                ("GET", "/v1/usage") => {
                    let used: usize = PHOTOS.iter().map(|p| p.bytes.len()).sum();
                    (
                        200,
                        json!({ "metrics": [{ "metric": "storage_bytes", "used": used }] }),
                    )
                }
                ("GET", "/v1/onboarding") => {
                    (200, json!({ "completed": ["profile", "first_library"] }))
                }
                // The second request comes after the grant.
                ("POST", "/v1/branding") if std::mem::replace(&mut self.granted, true) => {
                    (200, json!({}))
                }
                ("POST", "/v1/branding") => (
                    402,
                    json!({ "code": "feature_not_available", "upgrade_url": "http://x/settings" }),
                ),
                ("GET", "/v1/workspace/audit") => {
                    (200, json!({ "items": [{ "action": "plan.changed" }] }))
                }
                other => panic!("{other:?}"),
            };
            if request.path != "/v1/signup" {
                assert_eq!(request.token.as_deref(), Some(TOKEN), "{}", request.path);
            }
            (self.bend)(request, &mut status, &mut body);
            Ok(Answer {
                status,
                body: body.to_string().into_bytes(),
            })
        }
    }

    fn walk(
        bend: impl FnMut(&Request, &mut u16, &mut Value),
        admin_status: i32,
    ) -> (Result<(), DemoError>, String) {
        let mut out = Vec::new();
        let result = Tour {
            out: &mut out,
            wire: &mut Scripted {
                granted: false,
                uploads: 0,
                bend,
            },
            admin: &mut |arguments| {
                assert!(
                    matches!(arguments[1], "set-plan" | "override"),
                    "{arguments:?}"
                );
                assert_eq!((arguments[0], arguments[3]), ("admin", "ws_1"));
                let status = ExitStatus::from_raw(admin_status << 8);
                Ok(Output {
                    status,
                    stdout: b"{\"plan\":\"professional\"}\n".to_vec(),
                    stderr: b"no such plan".to_vec(),
                })
            },
            admin_prefix: "rawdrive".to_owned(),
            photos: Path::new("/tmp/photos"),
        }
        .walk();
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_whole_job_is_shown_and_no_token() {
        let (result, shown) = walk(|_, _, _| {}, 0);
        result.unwrap();
        assert!(!shown.contains(TOKEN), "{shown}");
        for line in [
            "\ncurl -sS -X POST http://127.0.0.1:9/v1/signup",
            "\n# 201 Created",
            "--data-binary @/tmp/photos/grass.webp",
            "\n# 206 Partial Content\n# (16 bytes) ff d8",
            "\n# 402 Payment Required",
            "\nrawdrive admin set-plan --workspace ws_1 --plan professional",
            "plan.changed",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
        // Pasted whole, it is what was done, and nothing else.
        for line in shown.lines().filter(|line| !line.is_empty()) {
            let is_command = ["curl ", "rawdrive ", "TOKEN=$(curl "];
            let is_command = is_command.iter().any(|begin| line.starts_with(begin));
            assert!(is_command || line.starts_with("# "), "{line}");
        }
    }

    #[test]
    fn any_other_status_ends_the_tour() {
        for path in [
            "/v1/signup",
            "/v1/libraries",
            "/v1/galleries",
            "/v1/usage",
            "/v1/branding",
            "/v1/workspace/audit",
        ] {
            let (result, shown) = walk(
                |request, status, _| {
                    if request.path == path {
                        *status = 500;
                    }
                },
                0,
            );
            let error = result.unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("500"), "{error}");
            assert!(shown.contains("500 Internal Server Error"), "{shown}");
        }
    }

    #[test]
    fn a_right_status_with_a_wrong_body_ends_the_tour() {
        for (path, wrong) in [
            ("/v1/signup", json!({ "access_token": TOKEN })),
            ("/v1/galleries/gal_1/photos", json!({ "items": [] })),
            (
                "/v1/usage",
                json!({ "metrics": [{ "metric": "storage_bytes", "used": 1 }] }),
            ),
            ("/v1/onboarding", json!({ "completed": [] })),
            ("/v1/branding", json!({ "code": "quota_exceeded" })),
            ("/v1/workspace/audit", json!({ "items": [] })),
        ] {
            let (result, _) = walk(
                |request, _, body| {
                    if request.path == path {
                        *body = wrong.clone();
                    }
                },
                0,
            );
            assert!(
                matches!(result, Err(DemoError::Untrue(_))),
                "{path}: {result:?}"
            );
        }
    }

    #[test]
    fn a_refused_grant_ends_the_tour() {
        let (result, _) = walk(|_, _, _| {}, 1);
        assert!(matches!(result, Err(DemoError::Command(said)) if said == "no such plan"));
    }

    #[test]
    fn the_images_are_what_they_say() {
        for photo in PHOTOS {
            let start: &[u8] = match photo.content_type {
                "image/jpeg" => b"\xff\xd8\xff",
                "image/png" => b"\x89PNG\r\n\x1a\n",
                _ => b"RIFF",
            };
            assert!(photo.bytes.starts_with(start), "{}", photo.filename);
        }
    }
}
