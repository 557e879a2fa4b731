//! One module a command, and what they have in common.

pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod blobs;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod keys;
pub(crate) mod renditions;
pub(crate) mod serve;
mod stop;
pub(crate) mod stripe;
pub(crate) mod usage;

use std::path::PathBuf;
use std::sync::Arc;

use rawdrive_billing::Policy;
use rawdrive_gallery::sql::GALLERY;
use rawdrive_gallery::{BlobError, Blobs};
use rawdrive_identity::{MasterKey, MasterKeyTooShort};
use rawdrive_plans::{Catalogue, CatalogueError};
use rawdrive_store::Store;
use rawdrive_tenancy_core::env::{FileClock, FileClockError};
use rawdrive_tenancy_core::{Env, StoreError};
use rawdrive_usage::RedisUsageCache;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use blobs::BlobsError;

/// What every command that touches data begins with: everything but the database.
#[derive(Debug)]
pub(crate) struct Installation {
    /// What was configured.
    pub(crate) config: Config,
    /// The data directory; it exists.
    pub(crate) data_dir: DataDir,
    /// Clock, ids and randomness; the development clock where one is configured.
    pub(crate) env: Env,
    /// What seals secrets at rest: as configured, otherwise from the data directory.
    pub(crate) secret_key: SecretString,
    /// The plans: as configured, otherwise built in.
    pub(crate) catalogue: Arc<Catalogue>,
}

/// Why an installation cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The data directory, or the secret key in it.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The configured catalogue cannot be read.
    #[error("RAWDRIVE_PLANS: failed to read {}", path.display())]
    PlansFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The configured catalogue is wrong.
    #[error("RAWDRIVE_PLANS")]
    Plans(#[from] CatalogueError),
    /// The development clock cannot be read.
    #[error("RAWDRIVE_DEV_CLOCK")]
    Clock(#[from] FileClockError),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] rawdrive_store::OpenError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The photos' directory cannot be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The photos' directory is not this database's.
    #[error(transparent)]
    Belonging(#[from] BlobsError),
    /// The secret key is too short.
    #[error("RAWDRIVE_SECRET_KEY")]
    SecretKey(#[from] MasterKeyTooShort),
    /// The currency is none.
    #[error("RAWDRIVE_CURRENCY: expected three letters such as usd")]
    Currency,
}

/// The catalogue in force: as configured, otherwise built in.
///
/// # Errors
/// The file cannot be read, or is wrong.
pub(crate) fn catalogue(config: &Config) -> Result<Catalogue, OpenError> {
    let Some(path) = &config.plans else {
        return Ok(rawdrive_gallery::built_in_catalogue());
    };
    let text = std::fs::read_to_string(path).map_err(|source| {
        let path = path.clone();
        OpenError::PlansFile { path, source }
    })?;
    Ok(rawdrive_gallery::catalogue(&text)?)
}

impl Installation {
    /// Opens it; the data directory and its secret key are made where they are missing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) fn open(config: Config) -> Result<Self, OpenError> {
        let catalogue = catalogue(&config)?;
        let env = match &config.dev_clock {
            None => Env::system(),
            Some(path) => Env::with_clock(Arc::new(FileClock::open(path.clone())?)),
        };
        let data_dir = DataDir::open(&config.data_dir)?;
        let secret_key = match &config.secret_key {
            Some(key) => key.clone(),
            None => data_dir.secret_key(&env)?,
        };
        Ok(Self {
            config,
            data_dir,
            env,
            secret_key,
            catalogue: Arc::new(catalogue),
        })
    }
}

impl Installation {
    /// Brings the schema up to date, as the role that owns it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) async fn migrate(&self) -> Result<(), OpenError> {
        let config = &self.config;
        let owner = config.database_owner.as_ref().unwrap_or(&config.database);
        Ok(Store::migrate(owner, config.database.user(), &[GALLERY]).await?)
    }

    /// Opens the database. A schema that is behind is brought up to date where the server's role owns it; where another
    /// one does, that is for `migrate` alone.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) async fn open_store(&self) -> Result<Store, OpenError> {
        let open = || {
            Store::open(
                &self.config.database,
                self.env.clone(),
                &self.catalogue,
                &[GALLERY],
            )
        };
        match open().await {
            Err(rawdrive_store::OpenError::Behind { .. })
                if self.config.database_owner.is_none() =>
            {
                self.migrate().await?;
                Ok(open().await?)
            }
            opened => Ok(opened?),
        }
    }

    /// Opens the photos' directory, whosever it is: whoever writes there or judges what is there asks first
    /// ([`blobs::claim`], [`blobs::belonging`]).
    ///
    /// # Errors
    /// It can be neither opened nor made.
    pub(crate) fn open_blobs(&self) -> Result<Blobs, OpenError> {
        Ok(Blobs::local(&self.config.blobs)?)
    }

    /// Where usage is cached, if anywhere; it is not connected yet.
    pub(crate) fn cache(&self) -> Option<RedisUsageCache> {
        self.config.redis.clone().map(RedisUsageCache::new)
    }

    /// What the installation has decided about money.
    #[must_use]
    pub(crate) const fn policy(&self) -> Policy {
        Policy {
            grace_days: self.config.grace_days,
            reversal: self.config.reversal,
        }
    }

    /// What seals secrets at rest.
    ///
    /// # Errors
    /// The text is too short.
    pub(crate) fn master_key(&self) -> Result<MasterKey, OpenError> {
        Ok(MasterKey::new(self.secret_key.expose_secret())?)
    }
}

#[cfg(test)]
mod tests {
    use rawdrive_tenancy_core::Causes;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn open(variables: &[(&str, &str)]) -> Result<Installation, String> {
        let variables = variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let config = Config::load(variables, None).unwrap();
        Installation::open(config).map_err(|error| Causes(&error).to_string())
    }

    #[test]
    fn a_configured_key_leaves_none_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let secret = "k".repeat(40);
        let variables = [
            ("RAWDRIVE_DATA_DIR", data.to_str().unwrap()),
            ("RAWDRIVE_SECRET_KEY", &secret),
        ];
        let installation = open(&variables).unwrap();
        assert_eq!(installation.secret_key.expose_secret(), secret);
        assert!(!data.join("secret.key").exists());
        let installation = open(&variables[..1]).unwrap();
        assert_eq!(installation.secret_key.expose_secret().len(), 64);
        assert!(!format!("{installation:?}").contains(installation.secret_key.expose_secret()));
    }

    #[test]
    fn a_wrong_catalogue_or_clock_is_named_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let data = ("RAWDRIVE_DATA_DIR", data.to_str().unwrap());
        let file = dir.path().join("file");
        let path = file.to_str().unwrap();
        let error = open(&[data, ("RAWDRIVE_PLANS", path)]).unwrap_err();
        assert!(error.contains("RAWDRIVE_PLANS: failed to read"), "{error}");
        std::fs::write(&file, "[[plan]]\nslug = 1\n").unwrap();
        let error = open(&[data, ("RAWDRIVE_PLANS", path)]).unwrap_err();
        assert!(
            error.starts_with("RAWDRIVE_PLANS: ") && error.contains("line 2"),
            "{error}"
        );
        let error = open(&[data, ("RAWDRIVE_DEV", "1"), ("RAWDRIVE_DEV_CLOCK", path)]).unwrap_err();
        assert!(
            error.starts_with("RAWDRIVE_DEV_CLOCK: ") && error.contains("RFC 3339"),
            "{error}"
        );
        // Nothing is made for a configuration that is refused.
        assert!(!dir.path().join("data").exists());
    }
}
