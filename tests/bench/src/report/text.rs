//! Numbers and tables as text.

use crate::stats::Spread;

/// With as many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// `12,345`.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

/// `9.46 (9.10–9.90)`.
pub fn spread(spread: Option<Spread>) -> String {
    let Some(Spread { min, median, max }) = spread else {
        return "–".to_owned();
    };
    if min == max {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(min), number(max))
}

/// `1.013× (0.990–1.040)`.
pub fn factor(spread: Option<Spread>) -> String {
    let Some(Spread { min, median, max }) = spread else {
        return "–".to_owned();
    };
    format!("{median:.3}× ({min:.3}–{max:.3})")
}

/// `64 B`, `4 KB`, `1 MB`.
pub fn bytes(size: usize) -> String {
    match size {
        1_048_576.. => format!("{} MB", size >> 20),
        1024.. => format!("{} KB", size >> 10),
        _ => format!("{size} B"),
    }
}

/// A table; the first column is text, the others are numbers.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: String = head.iter().skip(1).map(|_| "---:|").collect();
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}|---|{rule}\n{body}", line(head))
}

/// The heads of a table.
pub fn heads<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        for (value, expected) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (0.5, "0.50"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234_567.0, "1,234,567"),
            (-1500.0, "-1,500"),
        ] {
            assert_eq!(number(value), expected);
        }
        assert_eq!(bytes(64), "64 B");
        assert_eq!(bytes(4096), "4 KB");
        assert_eq!(bytes(1 << 20), "1 MB");
    }

    #[test]
    fn a_table_is_a_table() {
        let text = table(&heads(["a", "b"]), &[heads(["x", "1"])]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| x | 1 |\n");
        assert_eq!(spread(None), "–");
        assert_eq!(spread(Spread::of([2.0])), "2.00");
        assert_eq!(spread(Spread::of([1.0, 2.0, 3.0])), "2.00 (1.00–3.00)");
        assert_eq!(factor(Spread::of([1.0, 1.5])), "1.250× (1.000–1.500)");
    }
}
