#![doc = include_str!("../README.md")]

pub mod analysis;
mod blobs;
mod charges;
mod clients;
mod commands;
#[cfg(feature = "http")]
pub mod http;
pub mod id;
mod image_probe;
mod jobs;
mod metering;
mod model;
mod onboarding;
mod photo_commands;
mod pixel_format;
mod ports;
pub mod renditions;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "testkit")]
pub mod testkit;
mod upload;
mod upload_admission;
mod upload_hooks;

pub use blobs::{BlobError, BlobMark, BlobWriter, Blobs, Layout, NoMark, Piece, StoredBlob};
pub use clients::{
    Client, ClientError, ClientLink, ClientLinkToken, ClientLinks, ClientsRead, ClientsTx,
    LinkGrant, NewLink, OpenLink, SharedRead, add_client, delete_client, invite_client,
    revoke_link, set_clients, set_download, update_client,
};
pub use commands::{BrandingError, delete_gallery_permanently, save_branding};
pub use image_probe::{Finding, ImageFacts, InspectError, Inspector, MediaType, SecondLook};
pub use jobs::{ANALYSIS, BLOBS_PER_JOB, DeleteBlob, DeleteBlobs, UPLOAD, UploadEnded};
pub use metering::{
    AI_ANALYSIS, CUSTOM_BRANDING, PHOTOS, STORAGE_BYTES, built_in_catalogue, catalogue, metrics,
};
pub use model::{
    Branding, Color, Download, FileName, Gallery, GalleryOverview, Library, ListedGallery,
    Orientation, Photo, TextError, Title, Website,
};
pub use onboarding::{BRANDING_SAVED, CHECKS, CLIENT_INVITED, FACTS, LIBRARY_MADE, STEPS};
pub use photo_commands::{
    ChangeError, Moved, PhotoChange, change_photo, delete_photo, delete_photos, move_photos,
};
pub use ports::{
    AnalysisRead, AnalysisTx, GalleryFilter, GalleryRead, GalleryTx, LibraryDeletion, NameListing,
    NameOrder, PhotoKey, PhotoListing, PhotoOrder, UploadStore,
};
pub use upload::{BodyError, Incoming, Length, UploadError, receive};
pub use upload_admission::{Opened, Opening, foresee, open_together};
pub use upload_hooks::Companion;
