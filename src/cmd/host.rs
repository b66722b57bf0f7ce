//! The host a router starts on: what it offers, and what must be said before anything is started.

use crate::config::Config;
use crate::core::fact::Runner;
use rlimit::Resource;
use std::ops::RangeInclusive;

/// Memory one executor locks: three rings and their buffers.
const MEMLOCK_PER_EXECUTOR: u64 = 1 << 20;
/// Less than this glommio refuses whatever is asked of it.
const MEMLOCK_MIN: u64 = 512 << 10;
/// Descriptors a router is of little use without.
const FILES_MIN: u64 = 1024;

/// Descriptors of a router without clients, and those of each shard.
const FILES_OWN: usize = 48;
const FILES_PER_SHARD: usize = 24;

/// Ports from here on need no privileges.
const PORT_UNPRIVILEGED: u16 = 1024;

/// Checks what a router needs of its host, and raises the limit of descriptors. What may do harm
/// later is said in the log.
///
/// # Errors
/// What is missing, and the cure.
pub(super) fn check(config: &Config) -> Result<(), String> {
    check_io_uring()?;
    check_memlock(config.cores.len() as u64 + 1)?;
    raise_files();
    if config.defaults.runners.list().contains(&Runner::Local) {
        check_ports(&config.ports);
    }
    Ok(())
}

/// glommio panics without io_uring; this says it in words.
fn check_io_uring() -> Result<(), String> {
    try_io_uring().map_err(|error| {
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

/// Each of its three system calls may be forbidden by itself.
fn try_io_uring() -> std::io::Result<()> {
    let ring = io_uring::IoUring::new(2)?;
    ring.submitter().register_probe(&mut io_uring::Probe::new())?;
    ring.submit().map(drop)
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

/// Clients for whom there are descriptors. One in eight is left for connections to instances: with
/// none left for them, idle clients would keep all others from being served.
pub(super) fn clients_max(shards: usize) -> usize {
    let (soft, _) = Resource::NOFILE.get().unwrap_or((u64::MAX, u64::MAX));
    let soft = usize::try_from(soft).unwrap_or(usize::MAX);
    let own = FILES_OWN + FILES_PER_SHARD * shards;
    (soft - soft / 8).saturating_sub(own).max(1)
}

/// Instances can only use ports that they may bind, and that nobody else is given meanwhile.
fn check_ports(ports: &RangeInclusive<u16>) {
    let setting = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let (given, reserved) = (setting("ip_local_port_range"), setting("ip_local_reserved_ports"));
    if let Some(harm) = harm_of(ports, &given, &reserved) {
        let ports = format_args!("{}-{}", ports.start(), ports.end());
        tracing::warn!(%ports, "{harm}");
    }
}

/// What is wrong with these ports, on a kernel that gives clients ports from `given` (`FROM TO`)
/// but those in `reserved` (a list).
fn harm_of(ports: &RangeInclusive<u16>, given: &str, reserved: &str) -> Option<&'static str> {
    if *ports.start() < PORT_UNPRIVILEGED {
        return Some("--ports holds ports below 1024: instances need privileges to listen there");
    }
    let mut given = given.split_whitespace().filter_map(|it| it.parse::<u16>().ok());
    let (from, to) = (given.next()?, given.next()?);
    let reserved: Vec<_> = ranges(reserved).collect();
    let free = |port: u16| !reserved.iter().any(|it| it.contains(&usize::from(port)));
    let mut shared = from.max(*ports.start())..=to.min(*ports.end());
    shared.any(free).then_some(
        "--ports overlaps net.ipv4.ip_local_port_range, from which the kernel gives ports to \
         clients: an instance may find its port taken; choose others, or list them in \
         net.ipv4.ip_local_reserved_ports",
    )
}

/// The cores this process may use, from the kernel's own list.
pub(super) fn allowed_cores() -> Vec<usize> {
    let Some(list) = status("Cpus_allowed_list:") else { return vec![0] };
    ranges(&list).flatten().take(crate::base::ids::SHARDS_MAX).collect()
}

/// A list as the kernel writes it: `0-3,8`.
fn ranges(list: &str) -> impl Iterator<Item = RangeInclusive<usize>> {
    list.trim().split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse().ok()?)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_others_take_or_nobody_may_bind_are_noticed() {
        let check = |ports: RangeInclusive<u16>, reserved: &str, expected: Option<&str>| {
            let harm = harm_of(&ports, "32768\t60999\n", reserved);
            assert_eq!(harm.is_some(), expected.is_some(), "{ports:?}: {harm:?}");
            let part = expected.unwrap_or_default();
            assert!(harm.unwrap_or_default().contains(part), "{ports:?}: {harm:?}");
        };
        check(10_000..=10_999, "\n", None);
        check(1023..=2000, "\n", Some("below 1024"));
        check(1024..=32_767, "\n", None);
        check(1024..=32_768, "\n", Some("ip_local_port_range"));
        check(40_000..=40_002, "8080,40000-40001\n", Some("ip_local_port_range"));
        check(40_000..=40_002, "8080,40000-40002\n", None);
        check(61_000..=61_009, "", None);
        assert_eq!(harm_of(&(40_000..=40_001), "", ""), None, "an unknown kernel");
    }
}
