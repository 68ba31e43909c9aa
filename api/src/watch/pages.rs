//! Pure: how many objects are asked for at once, so that a page takes about the same room whatever the objects are.
//!
//! A slice has a hundred endpoints or two, a Service a few lines: what is small is listed in few requests, and of what
//! is large there is never much in memory.

/// What a page should have at most, in bytes: little beside what a controller keeps, and enough that requests do not
/// count.
const PAGE: usize = 512 << 10;
/// How many are asked for while it is not known how large they are: full slices of a hundred endpoints have 50 kB.
const FIRST: u32 = 20;

/// How large the pages of one listing are, and of those after it.
#[derive(Debug)]
pub(super) struct Pages {
    most: u32,
    next: u32,
}

impl Pages {
    /// At most so many objects a page.
    pub(super) fn new(most: u32) -> Self {
        Self { most, next: FIRST.min(most) }
    }

    /// How many are to be asked for.
    pub(super) fn limit(&self) -> u32 {
        self.next
    }

    /// A page has come: of so many objects, with so many bytes in all.
    pub(super) fn came(&mut self, objects: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(objects) {
            let fit = PAGE / each.max(1);
            self.next = u32::try_from(fit).unwrap_or(self.most).clamp(1, self.most.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_about_the_same_room_whatever_the_objects_are() {
        let mut pages = Pages::new(200);
        assert_eq!(pages.limit(), 20);
        for (objects, bytes, next) in [
            (20, 40_000, 200),
            (200, 1 << 20, 100),
            (100, 100 << 20, 1),
            (0, 90, 1),
            (1, 50_000, 10),
        ] {
            pages.came(objects, bytes);
            assert_eq!(pages.limit(), next, "after {objects} objects with {bytes} bytes");
        }
        assert_eq!(Pages::new(10).limit(), 10, "never more than is asked for");
    }
}
