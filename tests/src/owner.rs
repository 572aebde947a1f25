//! Who listens on a port.

use std::fs;

/// The process that listens on `port`: its id and name. None if nobody does or we may not know.
pub fn of_port(port: u16) -> Option<(u32, String)> {
    let socket = format!("socket:[{}]", listening_inode(port)?);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.to_str() == Some(&socket)))
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((pid, name.trim().to_owned()))
}

/// The inode of the socket in state LISTEN (0A), from the kernel's tables.
fn listening_inode(port: u16) -> Option<String> {
    let end = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|file| fs::read_to_string(file).unwrap_or_default());
    tables
        .iter()
        .flat_map(|table| table.lines())
        .find_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            (columns.get(1)?.ends_with(&end) && *columns.get(3)? == "0A")
                .then(|| columns.get(9).map(ToString::to_string))?
        })
}
