//! What has been checked, and what has only been read.

use std::ops::Deref;

/// Something whose signature and rules have been checked. Only this crate's `verify` functions make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) const fn new(checked: T) -> Self {
        Self(checked)
    }

    /// The thing itself, which from here on is as good as any that nobody checked.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Something well-formed that nobody has checked: for showing it and for finding the key that checks it, never for a
/// decision about rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified<T>(T);

impl<T> Unverified<T> {
    pub(crate) const fn new(read: T) -> Self {
        Self(read)
    }

    /// What it says of itself.
    pub const fn peek(&self) -> &T {
        &self.0
    }
}
