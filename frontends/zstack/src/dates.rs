//! Points in time as this dialect writes them: `Nov 14, 2017 10:20:57 PM`, without a zone. Epoch numbers are never
//! printed, because clients fail on them.

use babelvisor_core::model::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// As the manual prints it.
const PRINTED: &str = "%b %-d, %Y %-I:%M:%S %p";
/// What is read besides ISO 8601 and epoch numbers: the manual's form, that of newer Java (a comma after the year), and SQL's.
const READ: [&str; 6] = [
    "%b %d, %Y %I:%M:%S %p",
    "%b %d, %Y, %I:%M:%S %p",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%S",
];
/// Numbers from here on are milliseconds: as seconds they would lie beyond the year 5000.
const MILLISECONDS: i64 = 100_000_000_000;

/// `at` as the manual prints it, in `zone`.
pub(crate) fn print(at: Timestamp, zone: &TimeZone) -> String {
    let there = at.to_zoned(zone.clone());
    strtime::format(PRINTED, &there).unwrap_or_else(|_| there.to_string())
}

/// A date in any of the forms that clients send; without a zone of its own it is in `zone`. `None` for what is
/// no date.
pub(crate) fn parse(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(number) = text.parse::<i64>() {
        return if number.abs() >= MILLISECONDS {
            Timestamp::from_millisecond(number).ok()
        } else {
            Timestamp::from_second(number).ok()
        };
    }
    let local = READ
        .iter()
        .find_map(|form| strtime::parse(form, text).ok()?.to_datetime().ok())
        .or_else(|| text.parse::<jiff::civil::Date>().ok().map(DateTime::from))?;
    let there = zone.to_ambiguous_zoned(local).compatible().ok()?;
    Some(there.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_date_is_printed_as_the_manual_prints_it() {
        let evening = at("2017-11-14T22:20:57Z");
        assert_eq!(print(evening, &TimeZone::UTC), "Nov 14, 2017 10:20:57 PM");
        let shanghai = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(print(evening, &shanghai), "Nov 15, 2017 6:20:57 AM");
        assert_eq!(
            print(at("2017-01-01T00:05:07Z"), &TimeZone::UTC),
            "Jan 1, 2017 12:05:07 AM"
        );
    }

    #[test]
    fn every_form_that_clients_send_is_read() {
        let expected = at("2017-11-14T22:20:57Z");
        for text in [
            "Nov 14, 2017 10:20:57 PM",
            "Nov 14, 2017, 10:20:57 PM",
            "nov 14, 2017 10:20:57 pm",
            "2017-11-14 22:20:57",
            "2017-11-14T22:20:57",
            "2017-11-14T22:20:57Z",
            "2017-11-14T22:20:57.000Z",
            "2017-11-15T06:20:57+08:00",
            "1510698057",
            "1510698057000",
        ] {
            assert_eq!(parse(text, &TimeZone::UTC), Some(expected), "{text}");
        }
        assert_eq!(
            parse("Nov 4, 2017 1:02:03 AM", &TimeZone::UTC),
            Some(at("2017-11-04T01:02:03Z"))
        );
        assert_eq!(
            parse("2017-11-14", &TimeZone::UTC),
            Some(at("2017-11-14T00:00:00Z"))
        );
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in ["", "yesterday", "Nov 31, 2017 10:20:57 PM", "14:20"] {
            assert_eq!(parse(text, &TimeZone::UTC), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(seconds in -2_000_000_000_i64..4_000_000_000, offset in -12_i8..=14) {
            let zone = TimeZone::fixed(jiff::tz::offset(offset));
            let at = Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(parse(&print(at, &zone), &zone), Some(at));
        }
    }
}
