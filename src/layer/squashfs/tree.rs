//! What an image holds, before it has inodes: a tree of names, and the contents that files share.

/// A place in the data of an image where the bytes of a file stand. Files with the same bytes share one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Bytes of the file.
    pub size: u64,
    /// Where its first block begins, from the start of the image. Without meaning when there are no blocks.
    pub start: u64,
    /// The size word of each block (see [`super::UNCOMPRESSED_BLOCK`]); 0 is a block of zeros that is not stored.
    pub blocks: Vec<u32>,
    /// For a small file: the fragment block that holds it.
    pub fragment: Option<Fragment>,
}

/// A small file's place in a block that it shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Number of the fragment block.
    pub index: u32,
    /// Bytes from the start of the uncompressed block.
    pub offset: u32,
}

/// A file, symlink or directory.
#[derive(Debug)]
pub struct Node {
    /// Its name in the directory above; empty for the root.
    pub name: Box<[u8]>,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// A directory, with the numbers of its nodes in ascending byte order of their names.
    Directory(Vec<u32>),
    /// A regular file, with the number of its content.
    File {
        /// Index into [`Tree::contents`].
        content: u32,
        /// Mode 555 instead of 444.
        executable: bool,
    },
    /// A symlink and its target.
    Symlink(Box<[u8]>),
}

/// A whole image: the nodes, the root being number 0, and the contents they refer to.
#[derive(Debug)]
pub struct Tree {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All contents, in the order of their first use.
    pub contents: Vec<Content>,
}

impl Tree {
    /// A tree that has only an empty root.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Node { name: Box::default(), kind: Kind::Directory(Vec::new()) }], contents: Vec::new() }
    }

    /// Adds a node, which belongs to no directory yet, and gives its number.
    pub fn add(&mut self, name: &[u8], kind: Kind) -> u32 {
        self.nodes.push(Node { name: name.into(), kind });
        self.nodes.len() as u32 - 1
    }

    /// Adds a content and gives its number.
    pub fn add_content(&mut self, content: Content) -> u32 {
        self.contents.push(content);
        self.contents.len() as u32 - 1
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}
