//! The content of an image before it has inodes: a tree of names, and the contents that files share.

use super::format::BLOCK_SIZE;

/// The location of a file's bytes in the data of an image. Files with the same bytes share one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Bytes of the file.
    pub size: u64,
    /// The start of its first block, relative to the image. Meaningless if there are no blocks.
    pub start: u64,
    /// The size word of each block (see [`super::UNCOMPRESSED_BLOCK`]); 0 is a block of zeros that is not stored.
    pub blocks: Vec<u32>,
    /// For a small file: the fragment block that contains it.
    pub fragment: Option<Fragment>,
}

/// A small file's position in a block that it shares with others.
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
    pub kind: Kind,
}

/// The kind of a node.
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

/// A whole image: its nodes, with the root as number 0, and the contents that they refer to.
#[derive(Debug)]
pub struct Tree {
    /// Bytes of a block before compression.
    pub block_size: usize,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All contents, in the order of their first use.
    pub contents: Vec<Content>,
}

impl Tree {
    /// A tree that has only an empty root.
    #[must_use]
    pub fn new() -> Self {
        Self {
            block_size: BLOCK_SIZE,
            nodes: vec![Node { name: Box::default(), kind: Kind::Directory(Vec::new()) }],
            contents: Vec::new(),
        }
    }

    /// Adds a node, which belongs to no directory yet, and returns its number.
    pub fn add(&mut self, name: &[u8], kind: Kind) -> u32 {
        self.nodes.push(Node { name: name.into(), kind });
        self.nodes.len() as u32 - 1
    }

    /// Adds a content and returns its number.
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
