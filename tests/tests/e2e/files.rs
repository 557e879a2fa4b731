//! The files that photographers have, and how their clients send and save them.

use e2e::{Answer, Api, Server, image};
use reqwest::Method;
use serde_json::{Value, json};

macro_rules! file {
    ($name:literal) => {{
        const FILE: &[u8] = include_bytes!(concat!("../../assets/files/", $name));
        FILE
    }};
}

const BASE: &[u8] = file!("base.jpg");

/// Uploads a file that is taken, and holds what every such upload promises: the bytes as they were, and a POST that
/// answers what GET answers.
async fn stored(api: &Api, gallery: &str, bytes: &[u8], kind: &str) -> Value {
    let posted = api
        .upload(gallery, bytes.to_vec(), kind)
        .await
        .is(201)
        .json();
    let id = posted["id"].as_str().expect("an id");
    // The renditions are made meanwhile.
    let lasting = |photo: &Value| {
        let mut photo = photo.clone();
        let _ = photo.as_object_mut().expect("a photo").remove("renditions");
        photo
    };
    let shown = api.get(&format!("/v1/photos/{id}")).await.is(200).json();
    assert_eq!(lasting(&shown), lasting(&posted));
    let listed = api
        .list_all(&format!("/v1/galleries/{gallery}/photos"), 200)
        .await;
    let listed: Vec<_> = listed.iter().map(lasting).collect();
    assert!(listed.contains(&lasting(&posted)), "{listed:?}");
    let content = api.get(&format!("/v1/photos/{id}/content")).await.is(200);
    assert!(content.body == bytes, "the bytes were changed");
    posted
}

fn size(photo: &Value) -> (&Value, &Value, &Value) {
    (&photo["width"], &photo["height"], &photo["orientation"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_viewer_opens_is_taken_and_what_is_cut_off_is_not() {
    let server = Server::shared();
    let ada = server.sign_up("flaws").await;
    let gallery = ada.gallery("Flaws").await;
    let open = &BASE[..BASE.len() - 2];
    let taken: [Vec<u8>; 7] = [
        BASE.to_vec(),
        file!("samsung.jpg").to_vec(),
        file!("between.jpg").to_vec(),
        [open, b"\0\0SEFH no marker in it SEFT"].concat(),
        [open, BASE].concat(),
        [BASE, BASE, b"\0\0\0\x18ftypmp42MotionPhoto_Data"].concat(),
        [&BASE[..2], b"\xFF\xFF", &BASE[2..]].concat(),
    ];
    for bytes in taken {
        let photo = stored(&ada, &gallery, &bytes, "image/jpeg").await;
        assert_eq!(size(&photo), (&json!(96), &json!(64), &json!(1)));
    }
    let used = &ada.usage("storage_bytes").await["used"];

    let scan = BASE.windows(2).position(|pair| pair == b"\xFF\xDA");
    let scan = scan.expect("a scan");
    let data = scan + 2 + usize::from(BASE[scan + 3]);
    let cut: [Vec<u8>; 7] = [
        open.to_vec(),
        BASE[..scan].to_vec(),
        BASE[..data].to_vec(),
        [&BASE[..data], b"\xFF\xD9"].concat(),
        BASE[..BASE.len() - 40].to_vec(),
        [&BASE[..BASE.len() - 40], b"SEFT"].concat(),
        BASE[..30].to_vec(),
    ];
    for bytes in cut {
        let refused = ada.upload(&gallery, bytes, "image/jpeg").await;
        assert!(matches!(refused.status, 415 | 422), "{refused:?}");
    }
    let usage = ada.usage("storage_bytes").await;
    assert_eq!((&usage["used"], &usage["reserved"]), (used, &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sides_are_those_of_the_photo_as_it_is_displayed() {
    let server = Server::shared();
    let ada = server.sign_up("upright").await;
    let gallery = ada.gallery("Upright").await;
    for (bytes, kind) in [
        (file!("o6.jpg"), "image/jpeg"),
        (file!("o6.png"), "image/png"),
        (file!("o6.webp"), "image/webp"),
    ] {
        let photo = stored(&ada, &gallery, bytes, kind).await;
        assert_eq!(size(&photo), (&json!(64), &json!(96), &json!(6)), "{kind}");
    }
    let raw = [b"II*\0".to_vec(), vec![0; 2_000]].concat();
    let photo = stored(&ada, &gallery, &raw, "image/x-canon-cr2").await;
    assert_eq!(size(&photo), (&Value::Null, &Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_capture_is_found_where_cameras_write_it() {
    let server = Server::shared();
    let ada = server.sign_up("times").await;
    let gallery = ada.gallery("Times").await;
    for (bytes, taken_at) in [
        (file!("off.jpg"), "2026-05-01T16:30:00Z"),
        (file!("cd.jpg"), "2026-05-02T01:30:00Z"),
    ] {
        let photo = stored(&ada, &gallery, bytes, "image/jpeg").await;
        assert_eq!(photo["taken_at"], taken_at);
    }
    // Finer than what is stored.
    let date = b"2026:05:02 01:30:00\0";
    let fine = exif_jpeg(&[(0x9003, &date[..]), (0x9291, b"123456789\0")]);
    let photo = stored(&ada, &gallery, &fine, "image/jpeg").await;
    assert_eq!(photo["taken_at"], "2026-05-02T01:30:00.123456Z");
    for nonsense in [
        b"0000:00:00 00:00:00\0",
        b"    :  :     :  :  \0",
        b"2026:13:02 01:30:00\0",
        b"9999:12:31 23:59:59\0",
    ] {
        let photo = stored(
            &ada,
            &gallery,
            &exif_jpeg(&[(0x9003, nonsense)]),
            "image/jpeg",
        )
        .await;
        assert!(photo["taken_at"].is_null(), "{photo}");
    }
}

/// The plain JPEG with an Exif block of these texts.
fn exif_jpeg(texts: &[(u16, &[u8])]) -> Vec<u8> {
    let mut block = b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1A\0\0\0\0".to_vec();
    let count = u16::try_from(texts.len()).expect("few texts");
    block.extend(count.to_be_bytes());
    let mut values = Vec::new();
    let values_at = block.len() + texts.len() * 12 + 4;
    for (tag, text) in texts {
        let number = |n: usize| u32::try_from(n).expect("a small block").to_be_bytes();
        block.extend(tag.to_be_bytes());
        block.extend(2_u16.to_be_bytes());
        block.extend(number(text.len()));
        block.extend(number(values_at + values.len()));
        values.extend_from_slice(text);
    }
    block.extend([0; 4]);
    block.extend(values);
    let length = u16::try_from(block.len() + 8).expect("a small block");
    let head = [b"\xFF\xD8\xFF\xE1", &length.to_be_bytes()[..], b"Exif\0\0"].concat();
    [&head, &block, &BASE[2..]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_older_clients_are_stored_as_the_canonical_type() {
    let server = Server::shared();
    let ada = server.sign_up("types").await;
    let gallery = ada.gallery("Types").await;
    let raw = [b"II*\0".to_vec(), vec![0; 2_000]].concat();
    let sigma = [b"FOVb".to_vec(), vec![0; 2_000]].concat();
    for (bytes, declared, canonical) in [
        (BASE, "image/jpg", "image/jpeg"),
        (BASE, "Image/PJPEG; x=y", "image/jpeg"),
        (image::CAMERA_PNG, "image/x-png", "image/png"),
        (&raw[..], "image/tif", "image/tiff"),
        (&raw[..], "image/dng", "image/x-adobe-dng"),
        (&raw[..], "image/x-samsung-srw", "image/x-samsung-srw"),
    ] {
        let photo = stored(&ada, &gallery, bytes, declared).await;
        assert_eq!(photo["content_type"], canonical, "{declared}");
    }
    for (name, bytes) in [
        ("1.SRW", &raw),
        ("1.pef", &raw),
        ("1.nrw", &raw),
        ("1.rwl", &raw),
        ("1.3fr", &raw),
        ("1.iiq", &raw),
        ("1.x3f", &sigma),
    ] {
        let disposition = format!("form-data; name=\"file\"; filename=\"{name}\"");
        let octets = Some("application/octet-stream");
        let photo = form(&ada, &gallery, disposition.as_bytes(), octets, bytes).await;
        assert_eq!(photo.is(201).json()["filename"], name);
    }
    let refused = ada.upload(&gallery, BASE.to_vec(), "image/gif").await;
    refused.problem(415, "unsupported_media_type");
}

/// A form as some client writes it, byte by byte.
async fn form(
    api: &Api,
    gallery: &str,
    disposition: &[u8],
    content_type: Option<&str>,
    bytes: &[u8],
) -> Answer {
    let kind = content_type.map_or_else(String::new, |t| format!("Content-Type: {t}\r\n"));
    let body = [
        &b"--a-b\r\nContent-Disposition: "[..],
        disposition,
        b"\r\n",
        kind.as_bytes(),
        b"\r\n",
        bytes,
        b"\r\n--a-b--\r\n",
    ]
    .concat();
    let request = api.request(Method::POST, &format!("/v1/galleries/{gallery}/photos"));
    let request = request.header("content-type", "multipart/form-data; boundary=\"a-b\"");
    api.send(request.body(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_names_its_file_as_its_client_writes_it() {
    let server = Server::shared();
    let ada = server.sign_up("forms").await;
    let gallery = ada.gallery("Forms").await;
    for (disposition, name) in [
        (&b"form-data; name=file; filename=\"=?utf-8?B?TcOkZGNoZW4uanBn?=\"; filename*=utf-8''M%C3%A4dchen.jpg"[..], "Mädchen.jpg"),
        (&b"form-data; name=file; filename=\"=?utf-8?B?TcOkZGNoZW4uanBn?=\""[..], "Mädchen.jpg"),
        ("form-data; name=\"file\"; filename=\"Mädchen.jpg\"".as_bytes(), "Mädchen.jpg"),
        (&b"form-data; name=\"file\"; filename=\"M\xE4dchen.jpg\""[..], "Mädchen.jpg"),
        (&b"form-data; name=\"file\"; filename=\"C:\\fakepath\\a.jpg\""[..], "a.jpg"),
        (&b"form-data; name=\"file\"; filename=\"a%22b.jpg\""[..], "a\"b.jpg"),
        (&b"form-data; name=file; filename=plain.jpg"[..], "plain.jpg"),
    ] {
        for kind in [Some("image/jpeg"), None] {
            let photo = form(&ada, &gallery, disposition, kind, BASE).await.is(201).json();
            assert_eq!((&photo["filename"], &photo["content_type"]), (&json!(name), &json!("image/jpeg")));
        }
    }
    // The part's type is what is wrong, and is named.
    let plain = b"form-data; name=\"file\"; filename=\"a.jpg\"";
    for kind in ["text/plain", "image/gif; x=y", "nonsense"] {
        let refused = form(&ada, &gallery, plain, Some(kind), BASE).await;
        let problem = refused.problem(415, "unsupported_media_type");
        let detail = problem["detail"].as_str().expect("a text");
        let named = kind.split(';').next().unwrap_or_default();
        assert!(
            detail.contains(named) && detail.contains("image/jpeg"),
            "{detail}"
        );
        assert!(!detail.contains("multipart"), "{detail}");
    }
    let wrong = form(&ada, &gallery, plain, Some("image/png"), BASE).await;
    wrong.problem(415, "unsupported_media_type");
    let other = form(&ada, &gallery, b"form-data; name=\"other\"", None, BASE).await;
    other.problem(422, "validation_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_says_the_names_that_its_file_has() {
    let server = Server::shared();
    let ada = server.sign_up("names").await;
    let gallery = ada.gallery("Names").await;
    let named = |name: &str| {
        let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("/v1/galleries/{gallery}/photos?filename={name}")
    };
    let long = "写".repeat(251) + ".jpg";
    for (name, plain, encoded) in [
        ("IMG_1.jpg", Some("IMG_1.jpg"), "IMG_1.jpg".to_owned()),
        ("Mädchen.jpg", None, "M%C3%A4dchen.jpg".to_owned()),
        ("a\"b.jpg", None, "a%22b.jpg".to_owned()),
        (&long, None, "%E5%86%99".repeat(251) + ".jpg"),
    ] {
        let request = ada.request(Method::POST, &named(name));
        let request = request.header("content-type", "image/jpeg").body(BASE);
        let photo = ada.send(request).await.is(201).json();
        assert_eq!(photo["filename"], name);
        let id = photo["id"].as_str().expect("an id");
        let content = ada.get(&format!("/v1/photos/{id}/content")).await.is(200);
        let said = content.header("content-disposition");
        assert!(
            said.ends_with(&format!("; filename*=UTF-8''{encoded}")),
            "{said}"
        );
        let (_, quoted) = said.split_once("; filename=\"").expect("a plain name");
        let (quoted, _) = quoted.split_once('"').expect("its end");
        assert!(quoted.is_ascii() && quoted.ends_with(".jpg"), "{said}");
        if let Some(plain) = plain {
            assert_eq!(quoted, plain);
        }
    }
    for bad in [
        &("写".repeat(252) + ".jpg"),
        "a/b.jpg",
        "a\u{202E}gpj.exe",
        "\u{200B}",
    ] {
        let request = ada.request(Method::POST, &named(bad));
        let request = request.header("content-type", "image/jpeg").body(BASE);
        ada.send(request).await.problem(422, "validation_failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_much_memory_to_decode_is_refused_with_the_bound() {
    let server = Server::shared();
    let ada = server.sign_up_on("bounds", "professional").await;
    let gallery = ada.gallery("Bounds").await;
    // 34 bytes that say they are 115 megapixels.
    let bits = (14_000_u32 - 1) | (8_200 - 1) << 14;
    let bomb = [
        &b"RIFF\x1A\0\0\0WEBPVP8L\x0D\0\0\0\x2F"[..],
        &bits.to_le_bytes(),
        b"\x88\x88\x08\0\0\0\0\0\0",
    ]
    .concat();
    let photo = stored(&ada, &gallery, &bomb, "image/webp").await;
    let id = photo["id"].as_str().expect("an id");
    let path = format!("/v1/photos/{id}/analysis");
    let refused = ada.send(ada.request(Method::POST, &path)).await;
    let problem = refused.problem(422, "validation_failed");
    let said = problem["errors"][0]["message"].as_str().expect("a text");
    assert!(said.contains("419430400 bytes of memory"), "{said}");
    // Four components of 119 megapixels, each with its coefficients.
    let cmyk = image::progressive_jpeg(12_000, 9_900, 4);
    let photo = stored(&ada, &gallery, &cmyk, "image/jpeg").await;
    let id = photo["id"].as_str().expect("an id");
    let path = format!("/v1/photos/{id}/analysis");
    let refused = ada.send(ada.request(Method::POST, &path)).await;
    let problem = refused.problem(422, "validation_failed");
    let said = problem["errors"][0]["message"].as_str().expect("a text");
    assert!(said.contains("419430400 bytes of memory"), "{said}");
    // The flawed files that are stored are decoded too.
    for bytes in [file!("samsung.jpg"), file!("between.jpg")] {
        let photo = stored(&ada, &gallery, bytes, "image/jpeg").await;
        let id = photo["id"].as_str().expect("an id");
        let path = format!("/v1/photos/{id}/analysis");
        let _ = ada.send(ada.request(Method::POST, &path)).await.is(201);
    }
}
