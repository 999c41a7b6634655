package file

// RenameNew is what Put does with IfAbsent where there are no hard links.
var RenameNew = renameNew
