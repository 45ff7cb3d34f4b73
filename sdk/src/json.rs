//! Data as JSON text in which a member that is null is left out, as it is written: no tree is made for that.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

/// The text of `data`, which is one line. Elements of lists that are null stay, since leaving one out would move the others.
pub(crate) fn write(data: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(1024);
    data.serialize(&mut Serializer::with_formatter(&mut bytes, WithoutNulls::default()))?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// Keeps a member's name back until its value has begun.
#[derive(Default)]
struct WithoutNulls {
    /// What comes before the value: a comma, the name and a colon. Empty where no value is due.
    before: Vec<u8>,
    /// The name is being written.
    naming: bool,
    /// Whether each of the objects that are being written has a member yet, the innermost last.
    begun: Vec<bool>,
}

impl WithoutNulls {
    /// Writes what was kept back for the value that begins now.
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.before.is_empty() {
            return Ok(());
        }
        if let Some(begun) = self.begun.last_mut() {
            *begun = true;
        }
        writer.write_all(&self.before)?;
        self.before.clear();
        Ok(())
    }
}

/// Methods that write a part of a name or a value.
macro_rules! parts {
    ($($method:ident($($value:ident: $type:ty)?);)*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $value: $type)?) -> io::Result<()> {
            if self.naming {
                return CompactFormatter.$method(&mut self.before $(, $value)?);
            }
            self.begin(writer)?;
            CompactFormatter.$method(writer $(, $value)?)
        })*
    };
}

impl Formatter for WithoutNulls {
    parts! {
        write_bool(value: bool);
        write_i8(value: i8);
        write_i16(value: i16);
        write_i32(value: i32);
        write_i64(value: i64);
        write_i128(value: i128);
        write_u8(value: u8);
        write_u16(value: u16);
        write_u32(value: u32);
        write_u64(value: u64);
        write_u128(value: u128);
        write_f32(value: f32);
        write_f64(value: f64);
        write_number_str(value: &str);
        begin_string();
        write_string_fragment(fragment: &str);
        write_char_escape(escape: CharEscape);
        end_string();
        write_byte_array(value: &[u8]);
        begin_array();
        write_raw_fragment(fragment: &str);
    }

    fn write_null<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.before.is_empty() {
            return CompactFormatter.write_null(writer);
        }
        self.before.clear();
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer)?;
        self.begun.push(false);
        CompactFormatter.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begun.pop();
        CompactFormatter.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, _: &mut W, _: bool) -> io::Result<()> {
        self.naming = true;
        // Those before it may have been left out.
        let is_first = !self.begun.last().copied().unwrap_or_default();
        CompactFormatter.begin_object_key(&mut self.before, is_first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.naming = false;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        CompactFormatter.begin_object_value(&mut self.before)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    /// What is written, by way of a tree.
    fn expected(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let there = members.iter().filter(|(_, member)| !member.is_null());
                there.map(|(name, member)| (name.clone(), expected(member))).collect()
            }
            Value::Array(elements) => elements.iter().map(expected).collect(),
            plain => plain.clone(),
        }
    }

    #[test]
    fn a_member_that_is_null_is_left_out_and_an_element_is_not() {
        let check = |value: Value, text: &str| {
            assert_eq!(write(&value).unwrap(), text);
            assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected(&value));
        };
        check(json!({"a": null, "b": [null, {"c": null, "d": 0}]}), r#"{"b":[null,{"d":0}]}"#);
        check(json!({"a": 1, "b": null, "c": 2, "d": null}), r#"{"a":1,"c":2}"#);
        check(json!({"a": null}), "{}");
        check(json!({"a": {"b": null}, "c": []}), r#"{"a":{},"c":[]}"#);
        check(json!([{"a": null}, {"b": [[null]]}, {}]), r#"[{},{"b":[[null]]},{}]"#);
        check(json!({"null": "null", "q\"\n": "\u{1}ü\\"}), r#"{"null":"null","q\"\n":"\u0001ü\\"}"#);
        check(
            json!({"a": true, "b": -1, "c": 1.5, "d": u64::MAX, "e": ""}),
            r#"{"a":true,"b":-1,"c":1.5,"d":18446744073709551615,"e":""}"#,
        );
        check(Value::Null, "null");
        check(json!("x"), "\"x\"");
    }

    #[test]
    fn what_is_no_tree_is_written_as_its_tree_would_be() {
        #[derive(Serialize)]
        struct Sample {
            none: Option<u8>,
            nothing: (),
            number: f64,
            some: Option<Option<&'static str>>,
            pair: (i128, Option<u8>),
            choice: Choice,
            numbered: BTreeMap<u16, Option<bool>>,
        }
        #[derive(Serialize)]
        enum Choice {
            Named { one: Option<u8>, two: char },
        }
        let sample = Sample {
            none: None,
            nothing: (),
            number: f64::NAN,
            some: Some(Some("x")),
            pair: (-7, None),
            choice: Choice::Named { one: None, two: '"' },
            numbered: BTreeMap::from([(1, None), (20, Some(false)), (300, None), (4000, Some(true))]),
        };
        let text = write(&sample).unwrap();
        assert_eq!(
            text,
            r#"{"some":"x","pair":[-7,null],"choice":{"Named":{"two":"\""}},"numbered":{"20":false,"4000":true}}"#
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected(&serde_json::to_value(&sample).unwrap()));
    }
}
