package netfs

// LinuxKind is linuxKind.
func LinuxKind(magic uint32, mounted string) Kind { return linuxKind(magic, mounted) }

// MountType is mountType.
func MountType(mountinfo, device string) string { return mountType(mountinfo, device) }

// DarwinKind is darwinKind.
func DarwinKind(name, from string, local bool) Kind { return darwinKind(name, from, local) }

// WindowsKind is windowsKind.
func WindowsKind(path string, driveType uint32) Kind { return windowsKind(path, driveType) }

// Magics is magics.
func Magics() map[uint32]Kind { return magics() }
