//! An object store that fails when a test says so.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use rawdrive_testkit::{Fault, Faults};

/// Objects in memory; beginning, each part, completing and deleting count as calls.
#[derive(Debug, Clone)]
pub(crate) struct FailingObjects {
    pub(crate) objects: Arc<InMemory>,
    pub(crate) faults: Faults,
}

impl fmt::Display for FailingObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing objects")
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic {
        store: "failing objects",
        source: "a fault was asked for".into(),
    }
}

#[async_trait::async_trait]
impl ObjectStore for FailingObjects {
    async fn put_opts(&self, to: &Path, payload: PutPayload, o: PutOptions) -> Result<PutResult> {
        self.objects.put_opts(to, payload, o).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.faults.strike() {
            None => Ok(Box::new(FailingUpload {
                upload: self.objects.put_multipart_opts(to, options).await?,
                faults: self.faults.clone(),
            })),
            Some(_) => Err(failure()),
        }
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(from, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let fault = self.faults.strike();
        if fault == Some(Fault::Refused) {
            return keys.map(|_| Err(failure())).boxed();
        }
        let deleted = self.objects.delete_stream(keys);
        deleted
            .map(move |outcome| match fault {
                None => outcome,
                Some(_) => Err(failure()),
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FailingUpload {
    upload: Box<dyn MultipartUpload>,
    faults: Faults,
}

#[async_trait::async_trait]
impl MultipartUpload for FailingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.faults.strike() {
            None => self.upload.put_part(data),
            Some(_) => async { Err(failure()) }.boxed(),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.faults.strike() {
            None => self.upload.complete().await,
            Some(Fault::Refused) => Err(failure()),
            Some(Fault::AnswerLost) => {
                self.upload.complete().await?;
                Err(failure())
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
