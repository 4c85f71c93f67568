//! Maps with integer labels, as CWT has them: read strictly, written deterministically (RFC 8949 §4.2.1).
//!
//! A reader takes what it knows; what is left over, or stands there twice, is refused. What remains of CBOR's freedom
//! (long integers, indefinite lengths, another order) is refused by [`same`]: a message is only taken when writing it
//! again gives the same bytes.

use ciborium::Value;
use thiserror::Error;

/// What is wrong with the content of a signed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FieldError {
    /// Not CBOR, or bytes follow it.
    #[error("not a CBOR item")]
    NotCbor,
    /// Not the one deterministic encoding of what it says.
    #[error("not in deterministic encoding")]
    NotDeterministic,
    /// A map is missing, or has a label that is no integer.
    #[error("not a map with integer labels")]
    NotAMap,
    /// A label stands twice.
    #[error("claim {0} stands twice")]
    Twice(i64),
    /// A label must be there and is not.
    #[error("claim {0} is missing")]
    Missing(i64),
    /// A label that this version does not know. It may be a restriction, so the whole message is refused.
    #[error("claim {0} is unknown")]
    Unknown(i64),
    /// The value has another type, length or range.
    #[error("claim {0} has a value that does not fit")]
    Value(i64),
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Value, FieldError> {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).map_err(|_| FieldError::NotCbor)?;
    if rest.is_empty() { Ok(value) } else { Err(FieldError::NotCbor) }
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    ciborium::into_writer(value, &mut bytes).expect("writing a value to memory cannot fail");
    bytes
}

/// Refuses bytes that are not exactly what writing their meaning gives.
pub(crate) fn same(read: &[u8], written: &[u8]) -> Result<(), FieldError> {
    if read == written { Ok(()) } else { Err(FieldError::NotDeterministic) }
}

/// Builds a map. The caller gives the labels in the order of their encodings: 0, 1, 2 …, then -1, -2 ….
pub(crate) struct Writer(Vec<(Value, Value)>);

impl Writer {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn put(mut self, label: i64, value: impl Into<Value>) -> Self {
        self.0.push((label.into(), value.into()));
        self
    }

    pub(crate) fn put_some(self, label: i64, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(label, value),
            None => self,
        }
    }

    pub(crate) fn finish(self) -> Value {
        Value::Map(self.0)
    }
}

/// Takes a map apart.
pub(crate) struct Reader(Vec<(i64, Value)>);

impl Reader {
    pub(crate) fn new(value: Value) -> Result<Self, FieldError> {
        let Value::Map(entries) = value else { return Err(FieldError::NotAMap) };
        let mut fields: Vec<(i64, Value)> = Vec::with_capacity(entries.len().min(32));
        for (label, value) in entries {
            let Value::Integer(label) = label else { return Err(FieldError::NotAMap) };
            let label = i64::try_from(label).map_err(|_| FieldError::NotAMap)?;
            // Maps are short: what is not known is refused one line further, long before this loop gets slow.
            if fields.len() >= 32 {
                return Err(FieldError::Unknown(label));
            }
            if fields.iter().any(|(seen, _)| *seen == label) {
                return Err(FieldError::Twice(label));
            }
            fields.push((label, value));
        }
        Ok(Self(fields))
    }

    pub(crate) fn optional(&mut self, label: i64) -> Option<Value> {
        let at = self.0.iter().position(|(found, _)| *found == label)?;
        Some(self.0.swap_remove(at).1)
    }

    pub(crate) fn take(&mut self, label: i64) -> Result<Value, FieldError> {
        self.optional(label).ok_or(FieldError::Missing(label))
    }

    pub(crate) fn map(&mut self, label: i64) -> Result<Self, FieldError> {
        Self::new(self.take(label)?)
    }

    pub(crate) fn array(&mut self, label: i64) -> Result<Vec<Value>, FieldError> {
        self.take(label)?.into_array().map_err(|_| FieldError::Value(label))
    }

    pub(crate) fn uint<T: TryFrom<u64>>(&mut self, label: i64) -> Result<T, FieldError> {
        let value = self.take(label)?;
        uint(&value).ok_or(FieldError::Value(label))
    }

    pub(crate) fn bytes<T: TryFrom<Vec<u8>>>(&mut self, label: i64) -> Result<T, FieldError> {
        let value = self.take(label)?;
        bytes(value).ok_or(FieldError::Value(label))
    }

    pub(crate) fn text<T: std::str::FromStr>(&mut self, label: i64) -> Result<T, FieldError> {
        let value = self.take(label)?;
        text(&value).ok_or(FieldError::Value(label))
    }

    /// Requires one value and nothing else, as for a version or an algorithm.
    pub(crate) fn exactly(&mut self, label: i64, value: i64) -> Result<(), FieldError> {
        if self.take(label)? == Value::from(value) { Ok(()) } else { Err(FieldError::Value(label)) }
    }

    pub(crate) fn optional_bytes<T: TryFrom<Vec<u8>>>(
        &mut self,
        label: i64,
    ) -> Result<Option<T>, FieldError> {
        self.optional(label).map(|value| bytes(value).ok_or(FieldError::Value(label))).transpose()
    }

    pub(crate) fn optional_text<T: std::str::FromStr>(
        &mut self,
        label: i64,
    ) -> Result<Option<T>, FieldError> {
        self.optional(label).map(|value| text(&value).ok_or(FieldError::Value(label))).transpose()
    }

    pub(crate) fn finish(self) -> Result<(), FieldError> {
        match self.0.first() {
            Some((label, _)) => Err(FieldError::Unknown(*label)),
            None => Ok(()),
        }
    }
}

fn uint<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    T::try_from(u64::try_from(value.as_integer()?).ok()?).ok()
}

fn bytes<T: TryFrom<Vec<u8>>>(value: Value) -> Option<T> {
    T::try_from(value.into_bytes().ok()?).ok()
}

pub(crate) fn text<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_text()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use ciborium::cbor;

    use super::*;

    #[test]
    fn what_is_left_over_or_stands_twice_is_refused() {
        let mut reader = Reader::new(cbor!({1 => 5, 2 => "x"}).unwrap()).unwrap();
        assert_eq!(reader.uint::<u8>(1), Ok(5));
        assert_eq!(reader.uint::<u8>(1), Err(FieldError::Missing(1)));
        assert_eq!(reader.finish(), Err(FieldError::Unknown(2)));

        let twice = Value::Map(vec![(1.into(), 5.into()), (1.into(), 6.into())]);
        assert_eq!(Reader::new(twice).err(), Some(FieldError::Twice(1)));
        assert_eq!(Reader::new(cbor!({"1" => 5}).unwrap()).err(), Some(FieldError::NotAMap));
        let many = Value::Map((0..40).map(|label| (label.into(), 0.into())).collect());
        assert_eq!(Reader::new(many).err(), Some(FieldError::Unknown(32)));
    }

    #[test]
    fn values_must_fit() {
        let mut reader = Reader::new(cbor!({1 => 256, 2 => (-1), 3 => 1.0, 4 => "x"}).unwrap()).unwrap();
        assert_eq!(reader.uint::<u8>(1), Err(FieldError::Value(1)));
        assert_eq!(reader.uint::<u64>(2), Err(FieldError::Value(2)));
        assert_eq!(reader.uint::<u64>(3), Err(FieldError::Value(3)));
        assert_eq!(reader.bytes::<Vec<u8>>(4), Err(FieldError::Value(4)));
    }

    #[test]
    fn bytes_behind_an_item_are_refused() {
        assert_eq!(decode(&[0x01]), Ok(1.into()));
        assert_eq!(decode(&[0x01, 0x01]), Err(FieldError::NotCbor));
        assert_eq!(decode(&[]), Err(FieldError::NotCbor));
        // 5 in two bytes means the same but is not the same.
        let long = [0x18, 0x05];
        assert_eq!(same(&long, &encode(&decode(&long).unwrap())), Err(FieldError::NotDeterministic));
    }
}
