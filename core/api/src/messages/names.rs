//! The keys of a message, for tests that hold another language's definition against this one.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// Names of a struct's fields or of an enum's variants, as JSON has them, in the order of their declaration. Empty
/// for any other type.
pub fn names<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // Always an error: nothing is read.
    let _ = T::deserialize(Names(&mut found));
    found
}

struct Names<'a>(&'a mut &'static [&'static str]);

fn nothing<T>() -> Result<T, Error> {
    Err(Error::custom("names only"))
}

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        nothing()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        nothing()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = variants;
        nothing()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::names;
    use crate::messages::{JudgeMessage, VideoInfo};
    use crate::policy::Continuation;
    use crate::response::FinishReason;

    #[test]
    fn names_are_those_of_the_json() {
        let keys = ["scene", "instruction", "context", "first", "second", "seed"];
        assert_eq!(names::<JudgeMessage<VideoInfo>>(), keys);
        assert_eq!(names::<Continuation>(), ["answer", "opening", "tokens"]);
        assert_eq!(names::<FinishReason>(), ["stop", "length"]);
        assert!(names::<String>().is_empty());
    }
}
