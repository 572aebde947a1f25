//! Envoy's log, made readable for someone at a terminal.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Shows what is appended to a log.
pub struct Tail {
    path: PathBuf,
    offset: u64,
    partial: String,
    last: String,
}

impl Tail {
    /// From the beginning of `path`, which need not exist yet.
    pub fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
            partial: String::new(),
            last: String::new(),
        }
    }

    /// Prints the new lines worth reading.
    pub fn show(&mut self) {
        for line in self.new_lines() {
            // Every worker has a module of its own and may say the same.
            if let Some(text) = readable(&line).filter(|text| *text != self.last) {
                println!("{} {text}", time_of_day());
                self.last = text;
            }
        }
    }

    fn new_lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let _ = file.seek(SeekFrom::Start(self.offset));
            let _ = file.read_to_end(&mut bytes);
        }
        self.offset += bytes.len() as u64;
        self.partial.push_str(&String::from_utf8_lossy(&bytes));
        let whole = self.partial.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.partial.split_off(whole);
        std::mem::replace(&mut self.partial, rest)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// A line `<level> wasm log <filter> <vm>: <text>` of the module as its text, a warning or an error of Envoy as it is,
/// nothing for the rest.
fn readable(line: &str) -> Option<String> {
    let (level, text) = line.split_once(' ')?;
    let loud = matches!(level, "warning" | "error" | "critical");
    let Some((_, logged)) = text.split_once("wasm log ") else {
        return loud.then(|| format!("envoy {level}: {text}"));
    };
    let text = logged.split_once(": ").map_or(logged, |(_, text)| text);
    Some(if loud {
        format!("{level}: {text}")
    } else {
        text.to_owned()
    })
}

/// UTC, as Envoy and Redis write it.
fn time_of_day() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = now.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{:03}",
        now.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn only_what_matters_is_shown() {
        let module = "info [source/extensions/common/wasm/context.cc:1] wasm log sentinel_watch redis_sentinel: mymaster is 1";
        assert_eq!(readable(module).as_deref(), Some("mymaster is 1"));
        let warning = "warning wasm log sentinel_watch redis_sentinel: unknown: x";
        assert_eq!(readable(warning).as_deref(), Some("warning: unknown: x"));
        assert_eq!(
            readable("warning [main] odd").as_deref(),
            Some("envoy warning: [main] odd")
        );
        assert_eq!(readable("info [main] starting"), None);
    }
}
