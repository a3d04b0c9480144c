package repository

// SFTPCommand is sftpCommand.
var SFTPCommand = sftpCommand
