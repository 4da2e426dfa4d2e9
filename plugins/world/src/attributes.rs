//! The closed sets of values that a clip's attributes take, each with its word.

macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All values, in their fixed order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that stands for the value in texts.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The value that a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }
    };
}

attribute! {
    /// What an object is. Circle and diamond are left out: at 32x32 they look like a ring or a square.
    Shape {
        /// A long horizontal rectangle.
        Bar = "bar",
        /// Two crossed strokes, as a plus sign.
        Cross = "cross",
        /// A long vertical rectangle.
        Pole = "pole",
        /// A circle with a wide hole.
        Ring = "ring",
        /// A filled square.
        Square = "square",
        /// A filled triangle, point up.
        Triangle = "triangle",
    }
}

attribute! {
    /// An object's colour.
    Colour {
        /// Red.
        Red = "red",
        /// Green.
        Green = "green",
        /// Blue.
        Blue = "blue",
        /// Yellow.
        Yellow = "yellow",
        /// Purple.
        Purple = "purple",
        /// Cyan.
        Cyan = "cyan",
    }
}

attribute! {
    /// Where an object moves, over the whole clip and at constant speed.
    Motion {
        /// To the left.
        Left = "left",
        /// To the right.
        Right = "right",
        /// Upwards.
        Up = "up",
        /// Downwards.
        Down = "down",
        /// It keeps its place.
        Nowhere = "nowhere",
    }
}

attribute! {
    /// What is behind the objects. All are grey, so none is confusable with an object's colour.
    Background {
        /// Nearly black.
        Dark = "dark",
        /// Nearly white.
        Light = "light",
        /// Horizontal stripes.
        Striped = "striped",
        /// A chessboard.
        Checked = "checked",
    }
}

attribute! {
    /// How many objects there are.
    Count {
        /// 1.
        One = "one",
        /// 2.
        Two = "two",
        /// 3.
        Three = "three",
    }
}

impl Count {
    /// The count of `objects`, where there is a word for it.
    pub fn of(objects: usize) -> Option<Self> {
        Self::ALL.get(objects.checked_sub(1)?).copied()
    }
}

impl Colour {
    /// sRGB at full brightness. All are saturated, and their luma spreads over the whole range, so that
    /// they survive the halved colour resolution of `yuv420p`.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [225, 25, 30],
            Self::Green => [30, 165, 40],
            Self::Blue => [35, 60, 230],
            Self::Yellow => [245, 215, 20],
            Self::Purple => [165, 35, 185],
            Self::Cyan => [30, 215, 225],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_names_one_value() {
        let mut words = BTreeSet::new();
        let mut expected = 0;
        macro_rules! check {
            ($($name:ident),+) => {$(
                for value in $name::ALL {
                    assert_eq!($name::from_word(value.word()), Some(*value));
                    words.insert(value.word());
                    expected += 1;
                }
            )+};
        }
        check!(Shape, Colour, Motion, Background, Count);
        assert_eq!(words.len(), expected, "no word belongs to two attributes");
    }

    #[test]
    fn a_word_is_also_the_serialised_form() {
        assert_eq!(serde_json::to_string(&Motion::Nowhere).unwrap(), "\"nowhere\"");
    }

    #[test]
    fn counts_without_a_word_are_none() {
        assert_eq!(Count::of(2), Some(Count::Two));
        assert_eq!((Count::of(0), Count::of(4)), (None, None));
    }
}
