//! How much memory this process has used.

/// The largest resident set of this process so far, in bytes; none where the system does not say (only Linux is asked).
pub fn peak_rss_bytes() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    /// The kernel's file has about 60 short lines.
    const MAX_STATUS_BYTES: u64 = 64 * 1024;
    let path = std::path::Path::new("/proc/self/status");
    let status = taal_store::read_text(path, MAX_STATUS_BYTES).ok()?;
    high_water_mark_bytes(&status)
}

/// The line `VmHWM:   123 kB` of /proc/PID/status (proc_pid_status(5)); its kB are 1024 bytes.
fn high_water_mark_bytes(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
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
