package repository

import "time"

// SFTPCommand is sftpCommand.
var SFTPCommand = sftpCommand

// SetIdle sets how long restic may do nothing.
func (s *Service) SetIdle(d time.Duration) { s.idle = d }
