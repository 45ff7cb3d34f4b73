//! Points in time as ISO 8601 in UTC. Not a calendar: it only prints what a server counted.

/// Seconds since 1970, with the thousandths if they are known.
pub fn iso(seconds: i64, millis: Option<u32>) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date as in "chrono-Compatible Low-Level Date Algorithms" by Howard Hinnant: years begin in March, so that
    // the leap day is the last of a year, and eras have 400 years, after which the calendar repeats.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = String::with_capacity(24);
    // `write!` takes several times as long, and a journal has many entries.
    match u32::try_from(year) {
        Ok(year @ 0..=9999) => {
            two_digits(&mut text, year / 100);
            two_digits(&mut text, year % 100);
        }
        _ => text.push_str(&year.to_string()),
    }
    for (before, number) in [('-', month), ('-', day), ('T', hour), (':', minute), (':', second)] {
        text.push(before);
        two_digits(&mut text, u32::try_from(number).unwrap_or_default());
    }
    if let Some(millis) = millis {
        text.push('.');
        digit(&mut text, millis / 100);
        two_digits(&mut text, millis % 100);
    }
    text.push('Z');
    text
}

fn two_digits(text: &mut String, number: u32) {
    digit(text, number / 10);
    digit(text, number % 10);
}

fn digit(text: &mut String, digit: u32) {
    text.push(char::from_digit(digit, 10).unwrap_or('?'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        let check = |seconds, shown: &str| assert_eq!(iso(seconds, None), shown);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_795_384_806, "2026-11-22T22:00:06Z");
        check(4_107_542_399, "2100-02-28T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(-62_167_219_200, "0000-01-01T00:00:00Z");
        check(253_402_300_800, "10000-01-01T00:00:00Z");
        assert_eq!(iso(-1, Some(7)), "1969-12-31T23:59:59.007Z");
    }
}
