//! What a product adds to the core's API: routes, and the words that the document needs for them.

use std::fmt;
use std::sync::Arc;

use actix_web::web::ServiceConfig;
use futures_util::future::BoxFuture;
use rawdrive_store::Reader;
use rawdrive_tenancy_core::StoreError;
use utoipa::openapi::OpenApi;

type Register = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// Routes beside the core's: [`routes!`](crate::routes!) makes them of handlers.
#[derive(Clone)]
pub struct Routes {
    pub(crate) declared: OpenApi,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) pages: Vec<&'static str>,
    register: Vec<Register>,
}

impl Routes {
    /// Routes that `register` adds, and that `declared` describes.
    pub fn new(
        declared: OpenApi,
        register: impl Fn(&mut ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        Self {
            declared,
            vocabulary: Vocabulary::default(),
            pages: Vec::new(),
            register: vec![Arc::new(register)],
        }
    }

    /// The words that the document needs for them.
    #[must_use]
    pub fn vocabulary(mut self, vocabulary: Vocabulary) -> Self {
        self.vocabulary = vocabulary;
        self
    }

    /// Further services: what the routes work with, or pages that the document does not list. `paths` are those of pages,
    /// which answer GET.
    #[must_use]
    pub fn with(
        mut self,
        paths: &[&'static str],
        register: impl Fn(&mut ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.pages.extend(paths);
        self.register.push(Arc::new(register));
        self
    }

    pub(crate) fn register(&self, config: &mut ServiceConfig) {
        for register in &self.register {
            register(config);
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<&String> = self.declared.paths.paths.keys().collect();
        f.debug_struct("Routes")
            .field("paths", &paths)
            .finish_non_exhaustive()
    }
}

/// Makes [`Routes`] of a name for their document and of actix handlers that carry `#[utoipa::path]`:
/// `routes!(Contracts: contracts::list, contracts::create)`. The list is the router and the document at once.
#[macro_export]
macro_rules! routes {
    ($name:ident: $($module:ident :: $handler:ident),+ $(,)?) => {{
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($module::$handler),+))]
        struct $name;
        $crate::extension::Routes::new(
            <$name as utoipa::OpenApi>::openapi(),
            |config: &mut actix_web::web::ServiceConfig| {
                $(config.service($module::$handler);)+
            },
        )
    }};
}

/// What the document says of routes that they do not say themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vocabulary {
    /// What the product is for, in a sentence: of the document, and of the page at the root.
    pub about: &'static str,
    /// The tags of the routes, each with its description.
    pub tags: &'static [(&'static str, &'static str)],
    /// What has ids of its own.
    pub resources: &'static [Resource],
    /// Examples of texts: schema (empty for any), member, text.
    pub examples: &'static [(&'static str, &'static str, &'static str)],
}

/// A kind of thing with ids of its own.
#[derive(Debug, Clone, Copy)]
pub struct Resource {
    /// What one is called.
    pub noun: &'static str,
    /// How its ids begin.
    pub prefix: &'static str,
    /// The segment of a path that an id stands behind, such as `contracts`.
    pub segment: &'static str,
    /// The list that one's own address lies below, such as `/v1/contracts`, for what has an address of its own.
    pub address: Option<&'static str>,
    /// The schemas whose `id` is one's.
    pub schemas: &'static [&'static str],
    /// The members that name one.
    pub members: &'static [&'static str],
}

/// What a metric is counted for apart, such as each project of a workspace.
pub trait Subjects: Send + Sync + fmt::Debug {
    /// As the metric's `per` names it.
    fn kind(&self) -> &str;
    /// Whether the reader's workspace has one of that id.
    fn exists<'a>(
        &'a self,
        reader: &'a Reader,
        id: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
}
