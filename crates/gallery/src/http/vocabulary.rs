//! The words of the gallery in the API's document.

use rawdrive_http_api::extension::{Resource, Vocabulary};
use serde::Serialize;
use utoipa::ToSchema;

/// What the clients of a gallery may download.
#[derive(Debug, ToSchema)]
#[schema(as = Download, rename_all = "snake_case")]
#[expect(dead_code, reason = "the document's source")]
pub(super) enum DownloadName {
    None,
    Web,
    Original,
}

/// In which order photos are listed.
#[derive(Debug, ToSchema)]
#[schema(as = PhotoSort)]
#[expect(dead_code, reason = "the document's source")]
pub(super) enum PhotoSortName {
    #[schema(rename = "created_at")]
    CreatedAt,
    #[schema(rename = "-created_at")]
    CreatedAtDescending,
    #[schema(rename = "filename")]
    Filename,
    #[schema(rename = "-filename")]
    FilenameDescending,
    #[schema(rename = "taken_at")]
    TakenAt,
    #[schema(rename = "-taken_at")]
    TakenAtDescending,
}

/// In which order libraries and galleries are listed.
#[derive(Debug, ToSchema)]
#[schema(as = NameSort)]
#[expect(dead_code, reason = "the document's source")]
pub(super) enum NameSortName {
    #[schema(rename = "created_at")]
    CreatedAt,
    #[schema(rename = "-created_at")]
    CreatedAtDescending,
    #[schema(rename = "name")]
    Name,
    #[schema(rename = "-name")]
    NameDescending,
}

/// How it stands with a photo's renditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RenditionsStatus)]
pub(crate) enum RenditionsStatus {
    Pending,
    Ready,
    Unavailable,
}

pub(super) const GALLERY: Vocabulary = Vocabulary {
    about: "Where photographers store, select and deliver photos.",
    tags: &[
        ("galleries", "Libraries, and the galleries in them."),
        (
            "photos",
            "Uploading, reading, downloading and analysing photos.",
        ),
        ("branding", "How the workspace looks to its clients."),
        (
            "clients",
            "People whom galleries are delivered to, and their links.",
        ),
        (
            "shared",
            "What a client's link shows, without an account. The token in the path is the credential.",
        ),
    ],
    resources: &[
        Resource {
            noun: "library",
            prefix: "lib",
            segment: "libraries",
            address: Some("/v1/libraries"),
            schemas: &["Library"],
            members: &["library_id"],
        },
        Resource {
            noun: "gallery",
            prefix: "gal",
            segment: "galleries",
            address: Some("/v1/galleries"),
            schemas: &["Gallery", "SharedGallery"],
            members: &["gallery_id"],
        },
        Resource {
            noun: "photo",
            prefix: "pho",
            segment: "photos",
            address: Some("/v1/photos"),
            schemas: &["Photo"],
            members: &["photo_id", "photo_ids", "logo_photo_id"],
        },
        Resource {
            noun: "client",
            prefix: "cli",
            segment: "clients",
            address: Some("/v1/clients"),
            schemas: &["Client", "SharedClient"],
            members: &["client_ids"],
        },
    ],
    examples: &[
        ("Client", "name", "Emma Doe"),
        ("NewClient", "name", "Emma Doe"),
        ("UpdateClient", "name", "Emma Doe"),
        ("SharedClient", "name", "Emma Doe"),
        ("SharedWorkspace", "name", "Ada's Studio"),
        ("", "display_name", "Ada's Studio"),
        ("", "feature", "custom_branding"),
        ("", "metric", "storage_bytes"),
        ("Limit", "name", "storage_bytes"),
        ("", "subject", "gal_0192f0c1a2b37c4d8e5f60718293a4b5"),
        ("", "counted_for", "gal_0192f0c1a2b37c4d8e5f60718293a4b5"),
        ("", "filename", "IMG_0042.jpg"),
        ("PhotoResult", "id", "pho_0192f0c1a2b37c4d8e5f60718293a4b5"),
        (
            "",
            "url",
            "/v1/photos/pho_0192f0c1a2b37c4d8e5f60718293a4b5/renditions/web?v=9f86d081884c7d65",
        ),
        ("", "content_type", "image/jpeg"),
        ("", "perceptual_hash", "8f373714acfcf4d0"),
        ("", "analyzer", "rawdrive-local 1"),
        ("", "description", "A couple on a beach at sunset."),
        ("", "tags", "beach"),
        ("Step", "id", "first_library"),
        ("", "title", "Make your first library"),
        ("", "completed", "first_library"),
    ],
};
