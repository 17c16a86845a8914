//! Targets: the parts of a flake that can be built.

use super::AttrPath;

/// The outputs of a flake that have targets in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// `NixOS` machines.
    NixosConfigurations,
    /// Macs under nix-darwin.
    DarwinConfigurations,
    /// Homes under home-manager.
    HomeConfigurations,
    /// Packages, by system.
    Packages,
    /// Checks, by system.
    Checks,
    /// Shells, by system.
    DevShells,
}

impl Output {
    /// All of them, in the order in which they stand in a plan.
    pub const ALL: [Self; 6] = [
        Self::NixosConfigurations,
        Self::DarwinConfigurations,
        Self::HomeConfigurations,
        Self::Packages,
        Self::Checks,
        Self::DevShells,
    ];

    /// Its name in the flake.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NixosConfigurations => "nixosConfigurations",
            Self::DarwinConfigurations => "darwinConfigurations",
            Self::HomeConfigurations => "homeConfigurations",
            Self::Packages => "packages",
            Self::Checks => "checks",
            Self::DevShells => "devShells",
        }
    }

    /// Whether its targets stand one level deeper, under the name of a system.
    #[must_use]
    pub fn is_by_system(self) -> bool {
        matches!(self, Self::Packages | Self::Checks | Self::DevShells)
    }

    /// Where in a target its derivation is.
    fn inside(self) -> &'static [&'static str] {
        match self {
            Self::NixosConfigurations => &["config", "system", "build", "toplevel"],
            Self::DarwinConfigurations => &["system"],
            Self::HomeConfigurations => &["activationPackage"],
            Self::Packages | Self::Checks | Self::DevShells => &[],
        }
    }
}

/// Something that can be built.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The output of the flake that it is in.
    pub output: Output,
    /// What it is called: `nixosConfigurations.desk`, `packages.x86_64-linux.default`.
    pub attr: AttrPath,
}

impl Target {
    /// The target that `attr` names, if it is one.
    #[must_use]
    pub fn of(attr: AttrPath) -> Option<Self> {
        let first = attr.names().first()?;
        let output = Output::ALL.into_iter().find(|output| output.name() == first)?;
        (attr.names().len() == if output.is_by_system() { 3 } else { 2 }).then_some(Self { output, attr })
    }

    /// The attribute path of its derivation, for `nix build`.
    #[must_use]
    pub fn derivation(&self) -> AttrPath {
        self.attr.join(self.output.inside())
    }

    /// The system in its name, if there is one.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.attr.names().get(1).filter(|_| self.output.is_by_system()).map(String::as_str)
    }

    /// Whether it is so small that several may share a job. Machines and homes are not.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.output.is_by_system()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_from_other_paths() {
        let target = |text: &str| Target::of(AttrPath::parse(text).unwrap());
        let desk = target("nixosConfigurations.desk").unwrap();
        assert_eq!(desk.derivation().to_string(), "nixosConfigurations.desk.config.system.build.toplevel");
        assert_eq!((desk.system(), desk.is_small()), (None, false));
        let check = target("checks.x86_64-linux.a").unwrap();
        assert_eq!(
            (check.derivation(), check.system(), check.is_small()),
            (check.attr.clone(), Some("x86_64-linux"), true)
        );
        assert_eq!(target("darwinConfigurations.m").unwrap().derivation().to_string(), "darwinConfigurations.m.system");
        for other in ["lib.x", "packages.x86_64-linux", "nixosConfigurations.a.config", "packages"] {
            assert_eq!(target(other), None, "{other}");
        }
    }
}
