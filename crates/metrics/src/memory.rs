//! How much memory this process has used, and how much there is.

use std::path::Path;

/// The kernel's files have at most some hundred short lines.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The largest resident set of this process so far, in bytes; none where the system does not say (only Linux is asked).
pub fn peak_rss_bytes() -> Option<u64> {
    high_water_mark_bytes(&read("/proc/self/status")?)
}

/// Memory that a process may still take before the machine swaps or the process's group is at its limit (cgroup version 2), in bytes;
/// none where the system does not say (only Linux is asked).
pub fn available_memory_bytes() -> Option<u64> {
    let machine = kibibytes(&read("/proc/meminfo")?, "MemAvailable:")?;
    Some(group_left_bytes().map_or(machine, |left| left.min(machine)))
}

/// What is left below the limit of this process's group, where there is one.
fn group_left_bytes() -> Option<u64> {
    let group = read("/proc/self/cgroup")?;
    let path = group.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = |name: &str| -> Option<u64> { read(&format!("/sys/fs/cgroup/{path}/{name}"))?.trim().parse().ok() };
    let used = number("memory.current")?;
    Some(number("memory.max")?.saturating_sub(used))
}

fn read(path: &str) -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    taal_store::read_text(Path::new(path), MAX_FILE_BYTES).ok()
}

/// The line `VmHWM:   123 kB` of /proc/PID/status (proc_pid_status(5)); its kB are 1024 bytes.
fn high_water_mark_bytes(status: &str) -> Option<u64> {
    kibibytes(status, "VmHWM:")
}

/// A line `name   123 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::high_water_mark_bytes;

    #[test]
    fn high_water_mark_is_read_in_units_of_1024_bytes() {
        let status = "Name:\ttaal\nVmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(high_water_mark_bytes(status), Some(2 * 1024 * 1024));
    }

    #[test]
    fn a_status_without_the_line_gives_none() {
        assert_eq!(high_water_mark_bytes("Name:\ttaal\n"), None);
        assert_eq!(high_water_mark_bytes("VmHWM:\tmuch\n"), None);
    }
}
