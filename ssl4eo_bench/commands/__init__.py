"""What each command does: call, print, exit code. No torch, and no pandas before it is needed."""
