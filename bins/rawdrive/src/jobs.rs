//! What the server does in the background: the runtime's parts, and the jobs of photos' bytes.

use rawdrive_gallery::{Blobs, DeleteBlob, DeleteBlobs, UploadEnded};
use rawdrive_http_api::App;
use rawdrive_http_api::web::{EMAIL_VERIFICATION_PATH, PASSWORD_RESET_PATH};
use rawdrive_notices::Mailer;
use rawdrive_notices::webhooks::HttpSender;
use rawdrive_runtime::{Builder, JobContext, Mails, Runtime, Webhooks};

/// Registers what an application needs done: the rest is the installation's.
pub(crate) fn of_application<M: Mailer + 'static>(
    app: &App,
    bytes: &Blobs,
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
    blobs(builder, bytes)
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
