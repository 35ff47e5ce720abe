"""What the sandbox's image is made of. The modules run inside, side by side in /opt/sandbox, and import nothing of this program."""
