//! Figures and names as a reader wants them. Escaping for HTML is not done here: the templates do it.

use serde_json::Value;

/// A name that cannot disturb a page: class names are folder names, and those may hold anything.
///
/// What HTML or XML has no place for becomes U+FFFD; marks that turn the direction of what follows are dropped.
pub fn printable(name: &str) -> String {
    name.chars()
        .filter(|letter| !matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .map(|letter| match letter {
            '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
            letter if letter.is_control() => '\u{fffd}',
            letter => letter,
        })
        .collect()
}

/// At most `most` letters, the last one `…` where some were cut.
pub fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// `12345` as `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as per cent with `decimals` places: `91.42 %`.
pub fn percent(share: f64, decimals: usize) -> String {
    format!("{:.decimals$}\u{a0}%", share * 100.0)
}

/// Seconds as `42 s`, `3 min 5 s` or `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 10.0 => format!("{seconds:.1}\u{a0}s"),
        (0, 0, seconds) => format!("{seconds}\u{a0}s"),
        (0, minutes, seconds) => format!("{minutes}\u{a0}min {seconds}\u{a0}s"),
        (hours, minutes, _) => format!("{hours}\u{a0}h {minutes}\u{a0}min"),
    }
}

/// Bytes as kB, MB or GB.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count}\u{a0}bytes"),
        1_000..1_000_000 => format!("{:.1}\u{a0}kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}\u{a0}MB", count as f64 / 1e6),
        _ => format!("{:.2}\u{a0}GB", count as f64 / 1e9),
    }
}

/// Seconds since 1970 as a date and time in UTC: `2024-02-29 12:30 UTC`.
pub fn utc(unix_seconds: u64) -> String {
    let (days, minutes) = (unix_seconds / 86_400, unix_seconds / 60 % 1440);
    // Howard Hinnant's civil_from_days, with years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        minutes / 60,
        minutes % 60
    )
}

/// Every leaf of a JSON value with the path to it: `optimizer.momentum`, `0.9`.
pub fn leaves(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let below = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                collect(&below, value, found);
            }
        }
        Value::Null => found.push((path.to_owned(), "none".to_owned())),
        Value::Bool(true) => found.push((path.to_owned(), "yes".to_owned())),
        Value::Bool(false) => found.push((path.to_owned(), "no".to_owned())),
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| match item {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .collect();
            found.push((path.to_owned(), items.join(", ")));
        }
        other => found.push((path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_letters_and_lose_their_tricks() {
        assert_eq!(printable("T-shirt/top"), "T-shirt/top");
        assert_eq!(
            printable("a\u{0}\n\u{1b}[2J"),
            "a\u{fffd}\u{fffd}\u{fffd}[2J"
        );
        assert_eq!(printable("gpj.\u{202e}exe"), "gpj.exe");
        assert_eq!(shortened("Ankle boot", 6), "Ankle…");
        assert_eq!(shortened("Größe", 5), "Größe");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(percent(0.91424, 2), "91.42\u{a0}%");
        assert_eq!(duration(0.42), "0.4\u{a0}s");
        assert_eq!(duration(185.2), "3\u{a0}min 5\u{a0}s");
        assert_eq!(duration(7_800.0), "2\u{a0}h 10\u{a0}min");
        assert_eq!(bytes(1_342_000), "1.34\u{a0}MB");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_709_209_800), "2024-02-29 12:30 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59 UTC");
    }

    #[test]
    fn options_are_listed_by_their_path() {
        let value = serde_json::json!({
            "epochs": 3, "optimizer": {"sgd": {"momentum": 0.9}}, "clip_norm": null, "filters": [32, 64], "flip": true,
        });
        let found = leaves(&value);
        let line = |name: &str| {
            let (_, value) = found.iter().find(|(path, _)| path == name).unwrap();
            value.clone()
        };
        assert_eq!(line("optimizer.sgd.momentum"), "0.9");
        assert_eq!(line("clip_norm"), "none");
        assert_eq!(line("filters"), "32, 64");
        assert_eq!(line("flip"), "yes");
    }
}
