//! A [`Node`]: an item of the tree in its scope; what is in it, and its number.

use alloc::sync::Arc;

use abi::Result;
use collections::try_arc;
use fs::{FileKind, InodeBody};

use super::item::{Content, Item, Show};
use super::scope::Scope;
use super::text::Text;
use crate::task::numbers::PidNumber;

/// An item in its scope.
pub(crate) struct Node {
    pub(super) item: &'static Item,
    pub(super) scope: Scope,
    pub(super) body: InodeBody,
}

impl Node {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(item: &'static Item, scope: Scope) -> Result<Arc<Self>> {
        let node = try_arc(Self {
            item,
            scope,
            body: InodeBody::new(),
        })?;
        Ok(node)
    }

    pub(super) fn fixed(&self) -> &'static [Item] {
        match self.item.content {
            Content::Folder(items) | Content::Dynamic(items, _) => items,
            _ => &[],
        }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<(&'static Item, Scope)> {
        if let Some(item) = self
            .fixed()
            .iter()
            .find(|item| item.name.as_bytes() == name)
        {
            return Some((item, self.scope.clone()));
        }
        let Content::Dynamic(_, dynamic) = self.item.content else {
            return None;
        };
        (dynamic.find)(&self.scope, parse_number(name)?)
    }

    /// Numbers that stay the same for the same thing, and differ otherwise as well as can be.
    pub(super) fn ino(&self) -> u64 {
        ino_of(self.item, &self.scope)
    }

    /// As Linux counts: two of its own, and one for each folder or process in it.
    pub(super) fn link_count(&self) -> u32 {
        match self.item.content {
            Content::Dynamic(items, dynamic) => {
                let folders = items
                    .iter()
                    .filter(|item| item.kind() == FileKind::Directory);
                let listed = (dynamic.count)(&self.scope);
                u32::try_from(2 + folders.count() + listed).unwrap_or(u32::MAX)
            }
            Content::Folder(items) => {
                let folders = items
                    .iter()
                    .filter(|item| item.kind() == FileKind::Directory);
                u32::try_from(2 + folders.count()).unwrap_or(u32::MAX)
            }
            _ => 1,
        }
    }
}

pub(super) fn ino_of(item: &Item, scope: &Scope) -> u64 {
    if item.is_root(scope) {
        return 1;
    }
    let numbers = scope.numbers();
    let words = numbers.iter().flat_map(|number| number.to_le_bytes());
    let hash = item
        .name
        .bytes()
        .chain(words)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash >> 20) | 2
}

/// A number in its only spelling: no sign, no leading zero.
pub(super) fn parse_number(name: &[u8]) -> Option<PidNumber> {
    let text = core::str::from_utf8(name).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = plain && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok())?
}

pub(super) fn make(show: Show, scope: &Scope) -> Result<Text> {
    let mut text = Text::new();
    show(scope, &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(parse_number(b"10"), Some(10));
        assert_eq!(parse_number(b"0"), Some(0));
        for bad in [&b"010"[..], b"+1", b"-1", b"", b"1x", b"99999999999"] {
            assert_eq!(parse_number(bad), None);
        }
    }
}
