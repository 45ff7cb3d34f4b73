//! The two things that a health check wants to know of a certificate: until when it holds, and whether it vouches for itself.
//!
//! Not whether it is trusted: that is decided by the library that also parses it in full.

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, SliceReader, Tag};
use jiff::Timestamp;

/// What is told about a server's certificate, be it trusted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Issuer and subject are the same.
    pub self_issued: bool,
}

impl Certificate {
    /// Reads the fields (RFC 5280, 4.1); `None` for what is no certificate.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let mut outer = SliceReader::new(der).ok()?;
        let certificate = AnyRef::decode(&mut outer).ok()?;
        let mut parts = SliceReader::new(content(&certificate)?).ok()?;
        let signed = AnyRef::decode(&mut parts).ok()?;
        let mut fields = SliceReader::new(content(&signed)?).ok()?;
        // Before the serial number stands the version, which version 1 leaves out.
        if AnyRef::decode(&mut fields).ok()?.header().tag().is_context_specific() {
            let _serial = AnyRef::decode(&mut fields).ok()?;
        }
        let _signature = AnyRef::decode(&mut fields).ok()?;
        let issuer = AnyRef::decode(&mut fields).ok()?;
        let validity = AnyRef::decode(&mut fields).ok()?;
        let subject = AnyRef::decode(&mut fields).ok()?;
        let mut times = SliceReader::new(content(&validity)?).ok()?;
        Some(Certificate {
            not_before: time(AnyRef::decode(&mut times).ok()?)?,
            not_after: time(AnyRef::decode(&mut times).ok()?)?,
            self_issued: issuer.value() == subject.value(),
        })
    }
}

fn content<'a>(any: &AnyRef<'a>) -> Option<&'a [u8]> {
    (any.header().tag() == Tag::Sequence).then(|| any.value())
}

/// Before 2050 as UTCTime, later as GeneralizedTime (RFC 5280, 4.1.2.5).
fn time(any: AnyRef<'_>) -> Option<Timestamp> {
    let since_1970 = match any.header().tag() {
        Tag::UtcTime => any.decode_as::<UtcTime>().ok()?.to_unix_duration(),
        Tag::GeneralizedTime => any.decode_as::<GeneralizedTime>().ok()?.to_unix_duration(),
        _ => return None,
    };
    Timestamp::from_second(i64::try_from(since_1970.as_secs()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn the_dates_of_a_certificate_are_read_before_and_after_2050() {
        for (year, expected) in [(2031, "2031-02-03T00:00:00Z"), (2099, "2099-02-03T00:00:00Z")] {
            let mut params = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2020, 1, 2);
            params.not_after = date_time_ymd(year, 2, 3);
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let read = Certificate::read(made.der()).unwrap();
            assert_eq!(read.not_before.to_string(), "2020-01-02T00:00:00Z");
            assert_eq!(read.not_after.to_string(), expected);
            assert!(read.self_issued);
        }
    }

    #[test]
    fn what_is_no_certificate_is_not_read() {
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let der = made.cert.der();
        for end in [0, 1, 4, 20, 60, 100] {
            assert_eq!(Certificate::read(&der[..end]), None, "{end}");
        }
        assert_eq!(Certificate::read(b"-----BEGIN CERTIFICATE-----"), None);
    }
}
