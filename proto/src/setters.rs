//! The one idiom of configuration types: start with the defaults, and chain setters, one for each field.

/// Defines a setter for each field, named like the field.
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
