//! What is true of a clip.

use serde::{Deserialize, Serialize};

use crate::attributes::{Background, Colour, Count, Motion, Shape};

/// One object's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// What it is; no other object of the clip has the same shape.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// Where it moves.
    pub motion: Motion,
}

/// All that can be asked and claimed about a clip; complete and exact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The objects, in the order of [`Shape::ALL`], with distinct shapes.
    pub objects: Vec<Object>,
    /// What is behind them.
    pub background: Background,
}

impl Facts {
    /// The object of that shape.
    pub fn object(&self, shape: Shape) -> Option<&Object> {
        self.objects.iter().find(|object| object.shape == shape)
    }

    /// How many objects there are; `None` where there is no word for it.
    pub fn count(&self) -> Option<Count> {
        Count::of(self.objects.len())
    }

    /// Shapes that do not occur.
    pub fn absent(&self) -> Vec<Shape> {
        Shape::ALL.iter().copied().filter(|shape| self.object(*shape).is_none()).collect()
    }
}
