"""Result files, tables and leaderboard. No torch."""
