//! The host a router starts on: what it offers, and what must be said before anything is started.

use crate::config::Config;
use rlimit::Resource;

/// Memory one executor locks: three rings and their buffers.
const MEMLOCK_PER_EXECUTOR: u64 = 1 << 20;
/// Less than this glommio refuses whatever is asked of it.
const MEMLOCK_MIN: u64 = 512 << 10;
/// Descriptors a router is of little use without.
const FILES_MIN: u64 = 1024;

/// Checks what a router needs of its host, and raises the limit of descriptors.
///
/// # Errors
/// What is missing, and the cure.
pub(super) fn check(config: &Config) -> Result<(), String> {
    check_io_uring()?;
    check_memlock(config.cores.len() as u64 + 1)?;
    raise_files();
    Ok(())
}

/// glommio panics without io_uring; this says it in words.
fn check_io_uring() -> Result<(), String> {
    io_uring::IoUring::new(2).map(drop).map_err(|error| {
        let cure = match error.raw_os_error() {
            Some(libc::ENOSYS) => "this kernel has no io_uring; Linux 5.8 or newer is needed",
            Some(libc::EPERM) => {
                "io_uring is forbidden here: look at sysctl kernel.io_uring_disabled, or at the \
                 seccomp profile of the container"
            }
            Some(libc::ENOMEM) => "raise the limit of locked memory (ulimit -l)",
            _ => "Linux 5.8 or newer with io_uring is needed",
        };
        format!("io_uring is not available ({error}): {cure}")
    })
}

/// The superuser's memory is not limited.
fn check_memlock(executors: u64) -> Result<(), String> {
    let (soft, hard) = Resource::MEMLOCK.get().unwrap_or((u64::MAX, u64::MAX));
    let wanted = (executors * MEMLOCK_PER_EXECUTOR).max(MEMLOCK_MIN);
    if soft >= wanted
        || uid() == Some(0)
        || Resource::MEMLOCK.set(wanted.min(hard), hard).is_ok() && hard >= wanted
    {
        return Ok(());
    }
    Err(format!(
        "{executors} executors lock {} KiB of memory, and {} KiB are allowed: raise the limit \
         (ulimit -l, or LimitMEMLOCK= of the unit), or choose fewer --cores",
        wanted >> 10,
        soft.max(hard) >> 10
    ))
}

/// Every connection is a descriptor: the soft limit is raised to the hard one.
fn raise_files() {
    let Ok((soft, hard)) = Resource::NOFILE.get() else { return };
    if soft < hard
        && let Err(error) = Resource::NOFILE.set(hard, hard)
    {
        tracing::warn!(soft, hard, %error, "the limit of descriptors cannot be raised");
    }
    if hard < FILES_MIN {
        tracing::warn!(hard, "few descriptors are allowed (ulimit -n); each connection is one");
    }
}

/// The cores this process may use, from the kernel's own list.
pub(super) fn allowed_cores() -> Vec<usize> {
    let Some(list) = status("Cpus_allowed_list:") else { return vec![0] };
    list.trim()
        .split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.parse().ok()?..=to.parse::<usize>().ok()?)
        })
        .flatten()
        .take(crate::base::ids::SHARDS_MAX)
        .collect()
}

/// The OS user that runs this router.
pub(super) fn user() -> String {
    let of = |name| std::env::var(name).ok().filter(|it| !it.is_empty());
    user_of_passwd()
        .or_else(|| of("USER"))
        .or_else(|| of("LOGNAME"))
        .unwrap_or_else(|| "nobody".into())
}

fn user_of_passwd() -> Option<String> {
    let uid = uid()?.to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// The effective user.
fn uid() -> Option<u32> {
    status("Uid:")?.split_whitespace().nth(1)?.parse().ok()
}

/// A line of the kernel's account of this process.
fn status(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
}
