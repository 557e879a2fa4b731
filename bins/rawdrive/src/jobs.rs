//! What the server does in the background: the runtime's parts, and the jobs of photos' bytes.

use rawdrive_gallery::analysis::Decoders;
use rawdrive_gallery::renditions::{MakeRenditions, RenditionMaker};
use rawdrive_gallery::{
    Blobs, DeleteBlob, DeleteBlobs, GalleryRead as _, GalleryTx as _, UploadEnded,
};
use rawdrive_http_api::App;
use rawdrive_http_api::web::{EMAIL_VERIFICATION_PATH, PASSWORD_RESET_PATH};
use rawdrive_notices::Mailer;
use rawdrive_notices::webhooks::HttpSender;
use rawdrive_runtime::{Builder, JobContext, JobError, Mails, Runtime, Webhooks};
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::job::JobKind as _;

/// How many photos' renditions are made at once: decoding one takes a core, and others want pixels too.
const RENDITIONS_AT_ONCE: u32 = 2;

/// Registers what an application needs done: the rest is the installation's.
pub(crate) fn of_application<M: Mailer + 'static>(
    app: &App,
    bytes: &Blobs,
    decoders: Decoders,
    mailer: M,
    webhooks: HttpSender,
) -> Builder {
    let public_url = &app.settings.public_url;
    let builder = Runtime::builder(app.store.clone())
        .review_thresholds(app.steps.clone())
        .mails(Mails {
            mailer,
            sealer: app.mails.clone(),
            pepper: app.pepper.clone(),
            password_reset_url: format!("{public_url}{PASSWORD_RESET_PATH}"),
            email_verification_url: format!("{public_url}{EMAIL_VERIFICATION_PATH}"),
            upgrade_url: app.upgrade_url(),
        })
        .webhooks(Webhooks {
            sender: webhooks,
            keys: app.webhook_keys.clone(),
        });
    renditions(blobs(builder, bytes), bytes, decoders)
}

/// Smaller copies of photos.
fn renditions(builder: Builder, blobs: &Blobs, decoders: Decoders) -> Builder {
    let maker = RenditionMaker::new(blobs.clone(), decoders);
    let blobs = blobs.clone();
    builder
        .job(move |context: JobContext, job: MakeRenditions| {
            let (maker, blobs) = (maker.clone(), blobs.clone());
            async move { make_renditions(&context, job, &maker, &blobs).await }
        })
        .concurrency(MakeRenditions::NAME, RENDITIONS_AT_ONCE)
}

async fn make_renditions(
    context: &JobContext,
    MakeRenditions { photo }: MakeRenditions,
    maker: &RenditionMaker,
    blobs: &Blobs,
) -> Result<(), JobError> {
    let scope = context.scope();
    let found = context.store().read(scope).any_photo(photo).await?;
    let made = match &found {
        Some(found) => Some(maker.make(scope, found, context.attempts()).await?),
        None => None,
    };
    let mut tx = context.begin().await?;
    let recorded = match &made {
        Some(made) => tx.put_renditions(photo, made).await?,
        None => false,
    };
    if !recorded {
        // The photo went meanwhile, and the job that deletes its bytes may have come before these. No blob call inside
        // a transaction.
        drop(tx);
        blobs.delete_renditions(scope, photo).await?;
        tx = context.begin().await?;
    }
    context.finish(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

/// The bytes of photos whose rows are gone, and of uploads that came to nothing.
fn blobs(builder: Builder, blobs: &Blobs) -> Builder {
    let (one, ended, many) = (blobs.clone(), blobs.clone(), blobs.clone());
    builder
        .job(move |context: JobContext, job: DeleteBlob| {
            let blobs = one.clone();
            async move { Ok(blobs.delete(context.scope(), job.photo).await?) }
        })
        .job(move |context: JobContext, job: UploadEnded| {
            let blobs = ended.clone();
            async move { Ok(blobs.delete(context.scope(), job.photo()).await?) }
        })
        .job(move |context: JobContext, job: DeleteBlobs| {
            let blobs = many.clone();
            async move { Ok(blobs.delete_all(context.scope(), &job.photos).await?) }
        })
}
