//! What the process keeps of memory that it has freed.
//!
//! glibc maps large blocks apart and gives them back when they are freed; but it raises what it calls large to the
//! largest block that was ever freed (up to 32 MiB), and keeps everything below in the arena of the thread that asked
//! for it: after a photo of 12 megapixels was decoded by each thread, 100 MB for good. A fixed threshold keeps it as it
//! was: `M_MMAP_THRESHOLD` in `mallopt(3)`. It is read from the environment, before the first line of ours runs.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What glibc reads.
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
/// From so many bytes on a block is given back as soon as it is freed. Below, requests and rows live.
const THRESHOLD_BYTES: &str = "1048576";

/// Begins the process anew with the threshold in its environment, unless the operator has set one: the same process
/// id, the same files, the same arguments. Comes back where there is nothing to do, or with the reason why not.
pub(crate) fn give_large_blocks_back() -> io::Result<()> {
    if !cfg!(target_env = "gnu") || std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let name = arguments
        .next()
        .unwrap_or_else(|| OsString::from("rawdrive"));
    Err(Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(arguments)
        .env(VARIABLE, THRESHOLD_BYTES)
        .exec())
}
