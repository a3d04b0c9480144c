package repository

import (
	"context"
	"time"
)

// SFTPCommand is sftpCommand.
var SFTPCommand = sftpCommand

// SetIdle sets how long restic may do nothing.
func (s *Service) SetIdle(d time.Duration) { s.idle = d }

// Enter has somebody be in a repository, as who restores is.
func (s *Service) Enter(ctx context.Context, name string) (leave func(), err error) {
	return s.gates.share(ctx, name)
}
