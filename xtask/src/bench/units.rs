//! How figures are written in the tables.

/// Three digits: "85 ns", "1.27 µs", "15.0 µs".
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns.abs() {
        size if size < 999.5 => (ns, "ns"),
        size if size < 999_500.0 => (ns / 1e3, "µs"),
        _ => (ns / 1e6, "ms"),
    };
    format!("{} {unit}", three_digits(value))
}

/// With its sign, for a difference.
pub fn added(ns: f64) -> String {
    let text = time(ns);
    if ns < 0.0 {
        text.replace('-', "−")
    } else {
        format!("+{text}")
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// In powers of 1000, as the targets are.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        size if size >= 999.5e6 => format!("{} GB", three_digits(size / 1e9)),
        size if size >= 999.5e3 => format!("{} MB", three_digits(size / 1e6)),
        size => format!("{} kB", three_digits(size / 1e3)),
    }
}

pub fn percent(percent: f64) -> String {
    format!("{} %", three_digits(percent))
}

/// "1,234,567"
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit_that_fits() {
        let cases = [
            (0.0, "0.00 ns"),
            (85.4, "85.4 ns"),
            (999.7, "1.00 µs"),
            (1272.0, "1.27 µs"),
            (110_400.0, "110 µs"),
            (2.5e6, "2.50 ms"),
        ];
        for (ns, text) in cases {
            assert_eq!(time(ns), text);
        }
        assert_eq!(added(185.0), "+185 ns");
        assert_eq!(added(-3.0), "−3.00 ns");
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(bytes(41_200_000.0), "41.2 MB");
        assert_eq!(bytes(2_147_483_648.0), "2.15 GB");
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(491_520), "491,520");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
