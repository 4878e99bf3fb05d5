//! The idiom of configurations: a type starts with its defaults, and has a setter for each field; setters can
//! be chained.

/// A setter for each field, of its name.
macro_rules! setters {
    ($($field:ident: $value:ty,)*) => { $(
        #[doc = concat!("Sets `", stringify!($field), "`; see the field.")]
        #[must_use]
        pub fn $field(mut self, $field: $value) -> Self {
            self.$field = $field;
            self
        }
    )* };
}
pub(crate) use setters;
