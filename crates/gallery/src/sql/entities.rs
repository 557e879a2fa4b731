//! The tables as SeaORM sees them.

use rawdrive_store::tenant_entity;

tenant_entity! {
    pub(crate) mod libraries("libraries", [id: Uuid]) {
        name: String, created_at: ChronoDateTimeUtc, updated_at: ChronoDateTimeUtc, version: i64,
        name_folded: String,
    }
}

tenant_entity! {
    pub(crate) mod galleries("galleries", [id: Uuid]) {
        library_id: Uuid, name: String, download: String, deleted_at: Option<ChronoDateTimeUtc>,
        created_at: ChronoDateTimeUtc, updated_at: ChronoDateTimeUtc, version: i64, name_folded: String,
    }
}

tenant_entity! {
    pub(crate) mod photos("photos", [id: Uuid]) {
        gallery_id: Uuid, filename: String, content_type: String, size_bytes: i64, sha256: Vec<u8>,
        width: Option<i64>, height: Option<i64>, taken_at: Option<ChronoDateTimeUtc>,
        created_at: ChronoDateTimeUtc, orientation: Option<i64>, version: i64,
        updated_at: Option<ChronoDateTimeUtc>, filename_folded: String, renditions: Option<String>,
    }
}

tenant_entity! {
    pub(crate) mod photo_analyses("photo_analyses", [photo_id: Uuid]) {
        sharpness: f64, exposure_mean: f64, shadows_clipped: f64, highlights_clipped: f64,
        dominant_colors: String, perceptual_hash: i64, caption: Option<String>, analyzer: String,
        analyzed_at: ChronoDateTimeUtc,
    }
}

tenant_entity! {
    pub(crate) mod branding("branding", []) {
        display_name: String, primary_color: String, logo_photo_id: Option<Uuid>, website: Option<String>,
        updated_at: ChronoDateTimeUtc,
    }
}

tenant_entity! {
    pub(crate) mod clients("clients", [id: Uuid]) {
        name: String, email: String, email_folded: String, last_seen_at: Option<ChronoDateTimeUtc>,
        created_at: ChronoDateTimeUtc, updated_at: ChronoDateTimeUtc, version: i64,
    }
}

tenant_entity! {
    pub(crate) mod client_links("client_links", [id: Uuid]) {
        client_id: Uuid, secret_hash: Vec<u8>, created_at: ChronoDateTimeUtc,
    }
}

tenant_entity! {
    pub(crate) mod gallery_clients("gallery_clients", [gallery_id: Uuid, client_id: Uuid]) {}
}
