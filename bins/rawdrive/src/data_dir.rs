//! The data directory: who may read it, the secret key in it, and who else serves from it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rawdrive_tenancy_core::Env;
use secrecy::SecretString;
use secrecy::zeroize::Zeroize as _;

/// Random bytes of a made secret key; the file holds them as twice as many hex digits.
const SECRET_BYTES: usize = 32;

/// A directory that exists.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

/// What is wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// The file system refused.
    #[error("failed to {operation} {path}", path = path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others can read the secret key.
    #[error("{path} can be read by others (mode {mode:03o}): chmod 600 {path}", path = path.display())]
    Exposed {
        /// The secret key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The secret key's file holds something else.
    #[error(
        "{path} holds no key: expected {digits} hex digits; restore it from a backup, since what it sealed cannot be opened with another",
        path = path.display(), digits = 2 * SECRET_BYTES
    )]
    Corrupt {
        /// The secret key's file.
        path: PathBuf,
    },
}

/// Held for as long as this process is the only server of a data directory, or of a database's file; the operating system lets go
/// of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    _file: File,
}

impl DataDir {
    /// Opens the directory; a missing one is made, readable by its owner alone.
    ///
    /// # Errors
    /// It can be neither opened nor made.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io_error("create the data directory", path))?;
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The text in `secret.key`; a missing file is made, readable by its owner alone, and is on the disk
    /// before it is used. Two processes that start together end up with one key.
    ///
    /// # Errors
    /// The file can be read by others, holds no key, or the file system refuses.
    pub(crate) fn secret_key(&self, env: &Env) -> Result<SecretString, DataDirError> {
        let path = self.0.join("secret.key");
        if let Some(key) = read_key(&path)? {
            return Ok(key);
        }
        self.make_key(&path, env)?;
        read_key(&path)?.ok_or(DataDirError::Corrupt { path })
    }

    fn make_key(&self, path: &Path, env: &Env) -> Result<(), DataDirError> {
        // Written under a name of its own, then linked: a link fails if the name is taken, and nobody,
        // not even after a power cut, sees half a key under the name that counts.
        let draft = self
            .0
            .join(format!(".secret.key.{}", hex(&env.bytes::<8>())));
        let mut key = hex(&env.bytes::<SECRET_BYTES>());
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(key.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()
            });
        key.zeroize();
        let linked = written.and_then(|()| match std::fs::hard_link(&draft, path) {
            // Another process was faster: its key is the key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
        let removed = std::fs::remove_file(&draft);
        linked
            .and(removed)
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(io_error("write", path))
    }

    /// Claims to be the only server of this directory. Nothing when another process is it already.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn lock(&self) -> Result<Option<InstanceLock>, DataDirError> {
        InstanceLock::claim(&self.0.join("rawdrive.lock"))
    }
}

impl InstanceLock {
    /// Claims to be the only server of a database in a file, which may lie in another one's data directory. Nothing when
    /// another process is it already.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn of_database(file: &Path) -> Result<Option<Self>, DataDirError> {
        let mut name = file.as_os_str().to_owned();
        name.push(".server.lock");
        Self::claim(Path::new(&name))
    }

    fn claim(path: &Path) -> Result<Option<Self>, DataDirError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io_error("open", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
        }
    }
}

fn read_key(path: &Path) -> Result<Option<SecretString>, DataDirError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    // Of the opened file, so that it cannot be exchanged in between.
    let mode = file.metadata().map_err(io_error("read", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(DataDirError::Exposed { path, mode });
    }
    let mut bytes = Vec::new();
    file.take(4096)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    let text = bytes.trim_ascii_end();
    let whole = text.len() == 2 * SECRET_BYTES && text.iter().all(u8::is_ascii_hexdigit);
    let key = std::str::from_utf8(text)
        .ok()
        .filter(|_| whole)
        .map(SecretString::from);
    bytes.zeroize();
    key.map(Some).ok_or_else(|| DataDirError::Corrupt {
        path: path.to_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let outer = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&outer.path().join("a/b")).unwrap();
        (outer, dir)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_directory_and_its_key_are_the_owners_alone() {
        let (_outer, dir) = fresh();
        assert_eq!(mode(dir.path()), 0o700);
        let key = dir.secret_key(&Env::system()).unwrap();
        assert_eq!(key.expose_secret().len(), 64);
        assert_eq!(mode(&dir.path().join("secret.key")), 0o600);
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret.key"]);
    }

    #[test]
    fn the_key_stays_the_same() {
        let (_outer, dir) = fresh();
        let first = dir.secret_key(&Env::system()).unwrap();
        let again = DataDir::open(dir.path())
            .unwrap()
            .secret_key(&Env::system())
            .unwrap();
        assert_eq!(first.expose_secret(), again.expose_secret());
    }

    #[test]
    fn processes_that_start_together_end_up_with_one_key() {
        let (_outer, dir) = fresh();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| dir.secret_key(&Env::system()).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(
            keys.iter()
                .all(|key| key.expose_secret() == keys[0].expose_secret())
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_outer, dir) = fresh();
        dir.secret_key(&Env::system()).unwrap();
        let path = dir.path().join("secret.key");
        for exposed in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, Permissions::from_mode(exposed)).unwrap();
            let error = dir.secret_key(&Env::system()).unwrap_err().to_string();
            assert!(
                error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(dir.secret_key(&Env::system()).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_replaced() {
        let (_outer, dir) = fresh();
        let path = dir.path().join("secret.key");
        dir.secret_key(&Env::system()).unwrap();
        for wrong in ["", "abcdef\n", &"g".repeat(64), &"a".repeat(65)] {
            std::fs::write(&path, wrong).unwrap();
            let error = dir.secret_key(&Env::system()).unwrap_err();
            assert!(matches!(error, DataDirError::Corrupt { .. }), "{error}");
            assert!(
                wrong.is_empty() || !error.to_string().contains(wrong.trim()),
                "{error}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong);
        }
    }

    #[test]
    fn one_server_at_a_time_knows_that_it_is_alone() {
        let (_outer, dir) = fresh();
        let first = dir.lock().unwrap();
        assert!(first.is_some());
        assert!(dir.lock().unwrap().is_none());
        drop(first);
        assert!(dir.lock().unwrap().is_some());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("data");
        std::fs::write(&path, "").unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("failed to create the data directory"),
            "{error}"
        );
    }
}
